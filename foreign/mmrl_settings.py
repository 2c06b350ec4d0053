"""MMRL, MMRL++: git clone https://github.com/yunncheng/MMRL foreign/mmrl

TASK B2N, FS or CD among the KEY VALUE pairs; settings of each data set come from its trainers/config.py, and the pairs win.
"""

TRAINERS = {"MMRL": "trainers.mmrl", "MMRLpp": "trainers.mmrlpp"}


def add_arguments(parser):
    parser.add_argument("--train-epoch", type=int, help="OPTIM.MAX_EPOCH")


def extend_cfg(cfg, args):
    from foreign.mmrl import train

    train.extend_cfg(cfg)


def after_merge(cfg, args):
    from foreign.mmrl.trainers.config import get_dataset_specified_config

    if args.train_epoch:
        cfg.OPTIM.MAX_EPOCH = args.train_epoch
    cfg.merge_from_list(get_dataset_specified_config(dataset=cfg.DATASET.NAME, trainer=cfg.TRAINER.NAME, task=cfg.TASK))
    cfg.merge_from_list(args.opts)
