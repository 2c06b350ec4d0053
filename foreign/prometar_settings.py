"""ProMetaR: git clone https://github.com/mlvlab/ProMetaR foreign/prometar

It imports learn2learn (pip install learn2learn), which `make venv` doesn't install.
"""

TRAINERS = {"ProMetaR": "trainers.prometar"}


def extend_cfg(cfg, args):
    from foreign.prometar import train

    train.extend_cfg(cfg)
