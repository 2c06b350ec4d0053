"""CoOp, CoCoOp, ZeroshotCLIP as published: git clone https://github.com/KaiyangZhou/CoOp foreign/coop

Ours of these names are meant unless the folder is said: --trainer coop/CoOp.
"""

TRAINERS = {
    "CoOp": "trainers.coop", "CoCoOp": "trainers.cocoop", "ZeroshotCLIP": "trainers.zsclip", "ZeroshotCLIP2": "trainers.zsclip",
}  # fmt: skip


def extend_cfg(cfg, args):
    from foreign.coop import train

    train.extend_cfg(cfg)
