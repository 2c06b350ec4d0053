"""CoPrompt: git clone https://github.com/ShuvenduRoy/CoPrompt foreign/coprompt

W, depth and context length of each data set come from its trainers/constants.py and win over KEY VALUE pairs.
"""

TRAINERS = {"CoPrompt": "trainers.coprompt"}


def add_arguments(parser):
    parser.add_argument("--pre_train_exp_name", default="", help="declared by its train.py, read by nothing")


def extend_cfg(cfg, args):
    from foreign.coprompt import train

    train.extend_cfg(cfg)


def after_merge(cfg, args):
    from foreign.coprompt.trainers.constants import get_dataset_specified_config

    cfg.merge_from_list(get_dataset_specified_config(cfg.DATASET.NAME))
