"""PLOT: git clone https://github.com/CHENGY12/PLOT foreign/plot"""

SUBFOLDER = "plot/plot-coop"
TRAINERS = {"PLOT": "trainers.plot"}
SMALL_BATCHES = ("OxfordFlowers", "FGVCAircraft", "StanfordCars")


def extend_cfg(cfg, args):
    from foreign.plot import train

    train.extend_cfg(cfg)


def after_merge(cfg, args):
    cfg.OPTIM.MAX_EPOCH = {1: 50, 2: 100, 4: 100}.get(cfg.DATASET.NUM_SHOTS, 200)
    if cfg.DATASET.NAME == "ImageNet":
        cfg.OPTIM.MAX_EPOCH = 50
    if cfg.DATASET.NAME in SMALL_BATCHES:
        cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 32
