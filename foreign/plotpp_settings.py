"""PLOT++: git clone https://github.com/CHENGY12/PLOT foreign/plot

With --eval-only its own train.py reads TRAINER.PLOTPP.PRETRAIN_DIR and not --model-dir; here both are read.
"""

from foreign import plot_settings

SUBFOLDER = "plot/plot-pp"
TRAINERS = {"PLOTPP": "trainers.plotpp"}


def add_arguments(parser):
    parser.add_argument(
        "--device", default="", help="of training, such as cuda:0: the trainer needs it on a machine of one GPU or none"
    )


def extend_cfg(cfg, args):
    from foreign.plotpp import train

    train.extend_cfg(cfg)


def after_merge(cfg, args):
    plot_settings.after_merge(cfg, args)
    if args.device:
        cfg.DEVICE = args.device
