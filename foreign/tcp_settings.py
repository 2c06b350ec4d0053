"""TCP: git clone https://github.com/htyao89/Textual-based_Class-aware_prompt_tuning foreign/tcp"""

TRAINERS = {"TCP": "trainers.tcp"}


def extend_cfg(cfg, args):
    from foreign.tcp import train

    train.extend_cfg(cfg)


def after_merge(cfg, args):
    if cfg.DATASET.NAME in ("ImageNet", "SUN397"):
        cfg.OPTIM.MAX_EPOCH = 25
