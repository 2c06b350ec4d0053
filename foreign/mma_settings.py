"""MMA: git clone https://github.com/ZjjConan/Multi-Modal-Adapter foreign/mma"""

TRAINERS = {"MultiModalAdapter": "trainers.mmadapter"}


def extend_cfg(cfg, args):
    from foreign.mma import train

    train.extend_cfg(cfg)
