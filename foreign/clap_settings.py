"""CLAP: git clone https://github.com/jusiro/CLAP foreign/clap"""

TRAINERS = {"ADAPTER": "trainers.adapters"}


def add_arguments(parser):
    parser.add_argument("--enhanced-base", default="none", help="declared by its train.py, read by nothing")


def extend_cfg(cfg, args):
    from foreign.clap import train

    train.extend_cfg(cfg)


def after_merge(cfg, args):
    cfg.DATALOADER.TRAIN_X.SAMPLER = "SequentialSampler" if "TipA" in cfg.TRAINER.ADAPTER.INIT else "RandomSampler"


def load_model(load, trainer, directory, epoch):
    load(directory, trainer.cfg, epoch=epoch)
