"""R-AMT: git clone https://github.com/wuw2019/R-AMT foreign/ramt"""

SUBFOLDER = "ramt/code"
TRAINERS = {"MaskTuning": "trainers.masktuning"}


def extend_cfg(cfg, args):
    from foreign.ramt import train

    train.extend_cfg(cfg)
