"""ProGrad as published: git clone https://github.com/BeierZhu/Prompt-align foreign/prograd

Ours is meant unless the folder is said: --trainer prograd/ProGrad.
"""

SUBFOLDER = "prograd/ProGrad.public"
TRAINERS = {"ProGrad": "trainers.prograd", "CoOp": "trainers.coop", "CoCoOp": "trainers.cocoop"}


def extend_cfg(cfg, args):
    from foreign.prograd import train

    train.extend_cfg(cfg)
