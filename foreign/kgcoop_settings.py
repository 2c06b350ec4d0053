"""KgCoOp as published: git clone https://github.com/htyao89/KgCoOp foreign/kgcoop

Ours is meant unless the folder is said: --trainer kgcoop/KgCoOp.
"""

SUBFOLDER = "kgcoop/KgCoOp"
TRAINERS = {"KgCoOp": "trainers.kgcoop", "ProGrad": "trainers.prograd", "CoOp": "trainers.coop", "CoCoOp": "trainers.cocoop"}


def extend_cfg(cfg, args):
    from foreign.kgcoop import train

    train.extend_cfg(cfg)
