"""MaPLe, VPT, IVLP: git clone https://github.com/muzairkhattak/multimodal-prompt-learning foreign/maple"""

TRAINERS = {
    "MaPLe": "trainers.maple", "VPT": "trainers.vpt", "IVLP": "trainers.independentVL", "CoOp": "trainers.coop",
    "CoCoOp": "trainers.cocoop",
}  # fmt: skip


def extend_cfg(cfg, args):
    from foreign.maple import train

    train.extend_cfg(cfg)
