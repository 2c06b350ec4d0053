"""PromptSRC: git clone https://github.com/muzairkhattak/PromptSRC foreign/promptsrc"""

TRAINERS = {"PromptSRC": "trainers.promptsrc", "IVLP": "trainers.independentVL", "MaPLe": "trainers.maple"}


def extend_cfg(cfg, args):
    from foreign.promptsrc import train

    train.extend_cfg(cfg)
