"""Every setting and its default value."""

from .node import CfgNode as CN

# Dassl's methods for domain adaptation, domain generalisation and semi-supervised learning. The methods are not here,
# their settings are, so that configuration files and command lines that carry them are accepted.
_TRAINERS = {
    "MCD": {"N_STEP_F": 4},
    "MME": {"LMDA": 0.1},
    "CDAC": {
        "CLASS_LR_MULTI": 10, "RAMPUP_COEF": 30, "RAMPUP_ITRS": 1000, "TOPK_MATCH": 5, "P_THRESH": 0.95,
        "STRONG_TRANSFORMS": (),
    },
    "SE": {"EMA_ALPHA": 0.999, "CONF_THRE": 0.95, "RAMPUP": 300},
    "M3SDA": {"LMDA": 0.5, "N_STEP_F": 4},
    "DAEL": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    "CROSSGRAD": {"EPS_F": 1.0, "EPS_D": 1.0, "ALPHA_F": 0.5, "ALPHA_D": 0.5},
    "DDAIG": {
        "G_ARCH": "", "LMDA": 0.3, "CLAMP": False, "CLAMP_MIN": -1.0, "CLAMP_MAX": 1.0, "WARMUP": 0, "ALPHA": 0.5,
    },
    "DAELDG": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    "DOMAINMIX": {"TYPE": "crossdomain", "ALPHA": 1.0, "BETA": 1.0},
    "ENTMIN": {"LMDA": 1e-3},
    "MEANTEACHER": {"WEIGHT_U": 1.0, "EMA_ALPHA": 0.999, "RAMPUP": 5},
    "MIXMATCH": {"WEIGHT_U": 100.0, "TEMP": 2.0, "MIXUP_BETA": 0.75, "RAMPUP": 20000},
    "FIXMATCH": {"WEIGHT_U": 1.0, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
}  # fmt: skip


def get_defaults():
    """Return a new configuration with the defaults."""
    cfg = CN()
    cfg.VERSION = 1
    cfg.OUTPUT_DIR = "./output"
    cfg.RESUME = ""  # folder of a run to resume from; empty: OUTPUT_DIR itself
    cfg.SEED = -1  # negative: a different one each time
    cfg.USE_CUDA = True  # where there is a CUDA device; else the CPU is used
    cfg.VERBOSE = True
    cfg.INPUT = _input()
    cfg.DATASET = _dataset()
    cfg.DATALOADER = _dataloader()
    cfg.MODEL = _model()
    cfg.OPTIM = _optim()
    cfg.TRAIN = CN()
    cfg.TRAIN.CHECKPOINT_FREQ = 0  # in epochs; 0: only the last epoch
    cfg.TRAIN.PRINT_FREQ = 10  # in batches
    cfg.TRAIN.COUNT_ITER = "train_x"  # train_x, train_u or smaller_one: whose batches make an epoch (TrainerXU)
    cfg.TEST = _test()
    cfg.TRAINER = CN()
    cfg.TRAINER.NAME = ""
    for name, settings in _TRAINERS.items():
        cfg.TRAINER[name] = CN(settings)
    return cfg


def _input():
    c = CN()
    c.SIZE = (224, 224)  # height, width
    c.INTERPOLATION = "bilinear"
    c.TRANSFORMS = ()  # see data/transforms
    c.NO_TRANSFORM = False
    c.PIXEL_MEAN = [0.485, 0.456, 0.406]  # ImageNet's
    c.PIXEL_STD = [0.229, 0.224, 0.225]
    c.CROP_PADDING = 4
    c.RRCROP_SCALE = (0.08, 1.0)
    c.CUTOUT_N = 1
    c.CUTOUT_LEN = 16
    c.GN_MEAN = 0.0
    c.GN_STD = 0.15
    c.RANDAUGMENT_N = 2
    c.RANDAUGMENT_M = 10
    c.COLORJITTER_B = 0.4
    c.COLORJITTER_C = 0.4
    c.COLORJITTER_S = 0.4
    c.COLORJITTER_H = 0.1
    c.RGS_P = 0.2
    c.GB_P = 0.5
    c.GB_K = 21
    return c


def _dataset():
    c = CN()
    c.ROOT = ""
    c.NAME = ""
    c.SOURCE_DOMAINS = ()
    c.TARGET_DOMAINS = ()
    c.NUM_LABELED = -1
    c.NUM_SHOTS = -1  # images per class; below 1: all
    c.SUBSAMPLE_CLASSES = "all"  # all, base or new
    c.FOLDER = ""  # a folder below ROOT, for datasets that are any folder of images
    c.VAL_PERCENT = 0.1
    c.STL10_FOLD = -1
    c.CIFAR_C_TYPE = ""
    c.CIFAR_C_LEVEL = 1
    c.ALL_AS_UNLABELED = False
    return c


def _dataloader():
    c = CN()
    c.NUM_WORKERS = 4
    c.K_TRANSFORMS = 1  # views per training image
    c.RETURN_IMG0 = False  # also return the image without augmentation
    c.DECODED_MB = 256.0  # decoded training images that a process keeps in memory; 0: none
    c.TRAIN_X = CN()
    c.TRAIN_X.SAMPLER = "RandomSampler"
    c.TRAIN_X.BATCH_SIZE = 32
    c.TRAIN_X.N_DOMAIN = 0  # RandomDomainSampler: domains in a batch, 0: all
    c.TRAIN_X.N_INS = 16  # RandomClassSampler: images of a class in a batch
    c.TRAIN_U = CN()
    c.TRAIN_U.SAME_AS_X = True
    c.TRAIN_U.SAMPLER = "RandomSampler"
    c.TRAIN_U.BATCH_SIZE = 32
    c.TRAIN_U.N_DOMAIN = 0
    c.TRAIN_U.N_INS = 16
    c.TEST = CN()
    c.TEST.SAMPLER = "SequentialSampler"
    c.TEST.BATCH_SIZE = 32
    return c


def _model():
    c = CN()
    c.INIT_WEIGHTS = ""
    c.BACKBONE = CN()
    c.BACKBONE.NAME = ""
    c.BACKBONE.PATH = ""  # local weight file; empty: none
    c.BACKBONE.PRETRAINED = True
    c.HEAD = CN()
    c.HEAD.NAME = ""
    c.HEAD.HIDDEN_LAYERS = ()
    c.HEAD.ACTIVATION = "relu"
    c.HEAD.BN = True
    c.HEAD.DROPOUT = 0.0
    return c


def _optim():
    c = CN()
    c.NAME = "adam"
    c.LR = 0.0003
    c.WEIGHT_DECAY = 5e-4
    c.MOMENTUM = 0.9
    c.SGD_DAMPNING = 0
    c.SGD_NESTEROV = False
    c.RMSPROP_ALPHA = 0.99
    c.ADAM_BETA1 = 0.9
    c.ADAM_BETA2 = 0.999
    c.STAGED_LR = False  # LR · BASE_LR_MULT for all layers but NEW_LAYERS
    c.NEW_LAYERS = ()
    c.BASE_LR_MULT = 0.1
    c.LR_SCHEDULER = "single_step"
    c.STEPSIZE = (-1,)  # in epochs; below 1: MAX_EPOCH
    c.GAMMA = 0.1
    c.MAX_EPOCH = 10
    c.WARMUP_EPOCH = -1
    c.WARMUP_TYPE = "linear"
    c.WARMUP_CONS_LR = 1e-5
    c.WARMUP_MIN_LR = 1e-5
    c.WARMUP_RECOUNT = True  # the schedule starts after the warm-up, rather than having run through it
    return c


def _test():
    c = CN()
    c.EVALUATOR = "Classification"
    c.PER_CLASS_RESULT = False
    c.COMPUTE_CMAT = False  # writes OUTPUT_DIR/cmat.pt
    c.NO_TEST = False
    c.SPLIT = "test"
    c.FINAL_MODEL = "last_step"  # or best_val
    return c
