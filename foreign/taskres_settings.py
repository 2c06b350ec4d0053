"""TaskRes: git clone https://github.com/geekyutao/TaskRes foreign/taskres"""

TRAINERS = {"TaskRes": "trainers.taskres"}


def add_arguments(parser):
    parser.add_argument("--enhanced-base", default="none", help="path to the weights of an enhanced base classifier")


def extend_cfg(cfg, args):
    from foreign.taskres import train

    train.args = args  # which its extend_cfg reads
    train.extend_cfg(cfg)
