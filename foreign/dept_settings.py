"""DePT: git clone https://github.com/Koorye/DePT foreign/dept

Its trainers/ import plotnine (pip install plotnine), which `make venv` doesn't install.
"""

TRAINERS = {
    "ExtrasLinearProbeCoOp": "trainers.elp_coop", "ExtrasLinearProbeCoCoOp": "trainers.elp_cocoop",
    "ExtrasLinearProbeKgCoOp": "trainers.elp_kgcoop", "ExtrasLinearProbeMaPLe": "trainers.elp_maple",
    "CoOp": "trainers.coop", "CoCoOp": "trainers.cocoop", "KgCoOp": "trainers.kgcoop", "MaPLe": "trainers.maple",
}  # fmt: skip


def extend_cfg(cfg, args):
    from foreign.dept import train

    train.extend_cfg(cfg)
