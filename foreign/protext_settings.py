"""ProText: git clone https://github.com/muzairkhattak/ProText foreign/protext"""

TRAINERS = {
    "ProText": "trainers.protext",
    "PromptSRC": "trainers.promptsrc",
    "IVLP": "trainers.independentVL",
    "MaPLe": "trainers.maple",
}


def extend_cfg(cfg, args):
    from foreign.protext import train

    train.extend_cfg(cfg)
