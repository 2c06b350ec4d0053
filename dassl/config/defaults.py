"""Every key of the engine: default, limits, meaning, reader."""

from .node import section
from .schema import UNREAD, key

SAMPLERS = ("RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler")
TRANSFORMS = (
    "random_translation", "random_crop", "random_resized_crop", "random_flip", "imagenet_policy", "cifar10_policy", "svhn_policy",
    "randaugment", "randaugment_fixmatch", "randaugment2", "colorjitter", "randomgrayscale", "gaussian_blur", "cutout",
    "normalize", "gaussian_noise", "instance_norm", "center_crop",
)  # fmt: skip

# Dassl's methods for domain adaptation, domain generalisation and semi-supervised learning. The methods are not here,
# their settings are, so that configuration files and command lines that carry them are accepted.
LOGGERS = ("tensorboard", "wandb", "mlflow")
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


def _logger_complaint(text):
    """What is wrong with a value of TRAIN.LOGGERS, or ""."""
    words = text.split()
    if words == ["none"] or (set(words) <= set(LOGGERS) and 0 < len(words) == len(set(words))):
        return ""
    return f"must be names of {', '.join(LOGGERS)}, with blanks between them, or none"


def get_defaults():
    """Return a new configuration with the defaults."""
    return section(
        VERSION=key(1, "version of the configuration's format", choices=(1,)),
        OUTPUT_DIR=key("./output", "folder of the run: log, checkpoints, results.json (--output-dir)", check=_filled),
        RESUME=key("", "folder of a run to resume from (--resume)", also={"": "OUTPUT_DIR itself"}),
        SEED=key(
            -1, "seed of few-shot sample, initial values, data order and augmentation (--seed)", low=0, high=2**32 - 1,
            also={-1: "drawn at random, and said"},
        ),
        USE_CUDA=key(True, "compute on the GPU where there is one"),
        VERBOSE=key(True, "print what is loaded"),
        INPUT=_input(),
        DATASET=_dataset(),
        DATALOADER=_dataloader(),
        MODEL=_model(),
        OPTIM=_optim(),
        TRAIN=section(
            CHECKPOINT_FREQ=key(0, "epochs between two saved models; 0 or -1: only the last epoch's", low=-1),
            PRINT_FREQ=key(10, "batches between two lines of the log", low=1),
            LOGGERS=key(
                "tensorboard",
                "where numbers go beside metrics.csv: tensorboard, wandb, mlflow, several with blanks between them, or none",
                check=_logger_complaint,
            ),
            COUNT_ITER=key(
                "train_x", "whose batches make an epoch", choices=("train_x", "train_u", "smaller_one"), reader="TrainerXU"
            ),
        ),
        TEST=_test(),
        TRAINER=section(NAME=key("", "the method (--trainer)"), **_dassls_methods()),
    )  # fmt: skip


def _filled(text):
    return "" if text.strip() else "must not be empty"


def _dassls_methods():
    """Sections of the methods of Dassl that are not here; the values keep their type, and a trainer file may read them."""
    sections = {}
    for method, values in _TRAINERS.items():
        kinds = {name: str if value == () else type(value) for name, value in values.items()}
        keys = {name: key(values[name], f"of Dassl's {method}", kind=kinds[name], reader=UNREAD) for name in values}
        sections[method] = section(**keys)
    return sections


def _input():
    share = {"low": 0.0, "high": 1.0}
    return section(
        SIZE=key((224, 224), "height and width of the network's input in pixels", low=1, high=4096, length=2),
        PREPROCESS=key(
            "check",
            "whose SIZE, RESIZE_MODE, INTERPOLATION, PIXEL_MEAN and PIXEL_STD a pre-trained CLIP gets. check: its own, which "
            "what is set must equal; model: its own in place of what is set; yaml: what is set, and the log names what differs",
            choices=("check", "model", "yaml"),
        ),
        RESIZE_MODE=key(
            "shortest", "how an evaluated image is brought to SIZE. shortest: by its shortest edge, and the middle is cut out; "
            "squash: by both edges, whatever its shape; longest: by its longest edge, and black is added",
            choices=("shortest", "squash", "longest"),
        ),
        EXIF_ORIENTATION=key(
            "auto", "turn images as their EXIF orientation says; auto: those of ImageFolder, not those of published data sets",
            choices=("auto", "apply", "ignore"),
        ),
        INTERPOLATION=key("bilinear", "how images are resized", choices=("bilinear", "bicubic", "nearest")),
        TRANSFORMS=key((), "augmentation and normalisation of training images (--transforms)", choices=TRANSFORMS, kind=str),
        NO_TRANSFORM=key(False, "deliver PIL images as they are, for a data set wrapper that transforms them itself"),
        PIXEL_MEAN=key([0.485, 0.456, 0.406], "mean of the channels, which normalize subtracts", length=3, **share),
        PIXEL_STD=key([0.229, 0.224, 0.225], "deviation of the channels, which it divides by", above=0.0, high=1.0, length=3),
        CROP_PADDING=key(4, "pixels around the image", low=0, high=4096, reader="random_crop"),
        RRCROP_SCALE=key(
            (0.08, 1.0), "smallest and largest share of the area", length=2, above=0.0, high=1.0, check=_ascending,
            reader="random_resized_crop",
        ),
        CUTOUT_N=key(1, "number of holes", low=1, high=10_000, reader="cutout"),
        CUTOUT_LEN=key(16, "edge of a hole in pixels", low=1, high=4096, reader="cutout"),
        GN_MEAN=key(0.0, "mean of the noise", low=-10.0, high=10.0, reader="gaussian_noise"),
        GN_STD=key(0.15, "deviation of the noise", low=0.0, high=10.0, reader="gaussian_noise"),
        RANDAUGMENT_N=key(2, "operations in a row", low=1, high=100, reader="randaugment, randaugment2, randaugment_fixmatch"),
        RANDAUGMENT_M=key(10, "strength of the operations", low=0, high=30, reader="randaugment"),
        COLORJITTER_B=key(0.4, "change of brightness", low=0.0, high=100.0, reader="colorjitter"),
        COLORJITTER_C=key(0.4, "change of contrast", low=0.0, high=100.0, reader="colorjitter"),
        COLORJITTER_S=key(0.4, "change of saturation", low=0.0, high=100.0, reader="colorjitter"),
        COLORJITTER_H=key(0.1, "change of hue", low=0.0, high=0.5, reader="colorjitter"),
        RGS_P=key(0.2, "probability", **share, reader="randomgrayscale"),
        GB_P=key(0.5, "probability", **share, reader="gaussian_blur"),
        GB_K=key(21, "edge of the kernel in pixels", low=1, high=1023, check=_odd, reader="gaussian_blur"),
    )  # fmt: skip


def _ascending(values):
    return "" if list(values) == sorted(values) else "must be in ascending order"


def _odd(value):
    return "" if value % 2 else "must be odd"


def _dataset():
    return section(
        ROOT=key("", "folder that holds the data sets (--root)"),
        NAME=key("", "class of the data set, from datasets/"),
        SOURCE_DOMAINS=key((), "domains to learn from (--source-domains)", kind=str),
        TARGET_DOMAINS=key((), "domains to test on (--target-domains)", kind=str),
        NUM_LABELED=key(-1, "labelled images in semi-supervised learning", low=-1, reader=UNREAD),
        NUM_SHOTS=key(-1, "training images per class", low=1, also={-1: "all"}),
        SUBSAMPLE_CLASSES=key("all", "classes to use: all, the first half, or the rest", choices=("all", "base", "new")),
        HELD_OUT=key(
            0.0,
            "share of the base classes that play the new ones, with validation images in place of test images, while settings "
            "are chosen (python -m reproduce tune); 0: none",
            low=0.0,
            below=1.0,
        ),
        HELD_OUT_SEED=key(0, "seed of the draw of these classes", low=0, high=2**32 - 1),
        MULTI_LABEL=key(
            False,
            "images have any number of labels, as of ImageList: binary cross-entropy in place of cross-entropy, mAP in place of "
            "accuracy",
        ),
        FOLDER=key("", "folder below ROOT", reader="ImageFolder, ImageList"),
        NESTED=key(False, "images in sub-folders of a class folder belong to the class, too", reader="ImageFolder"),
        TEMPLATE=key(
            "",
            "hand-written template with {} for the class name, in place of the data set's own (of ImageFolder: the first one "
            "of its templates.txt)",
        ),
        VAL_PERCENT=key(0.1, "share of the training images for validation", low=0.0, below=1.0, reader=UNREAD),
        STL10_FOLD=key(-1, "fold of STL-10", low=-1, high=9, reader=UNREAD),
        CIFAR_C_TYPE=key("", "corruption of CIFAR-C", reader=UNREAD),
        CIFAR_C_LEVEL=key(1, "strength of the corruption of CIFAR-C", low=1, high=5, reader=UNREAD),
        ALL_AS_UNLABELED=key(False, "labelled images are unlabelled ones, too", reader=UNREAD),
    )


def _dataloader():
    def training(**more):
        return section(
            SAMPLER=key("RandomSampler", "order of the training images", choices=SAMPLERS),
            BATCH_SIZE=key(32, "images in a batch, of all processes together", low=1),
            N_DOMAIN=key(0, "domains in a batch; 0: all", low=0, reader="RandomDomainSampler"),
            N_INS=key(16, "images of a class in a batch", low=1, reader="RandomClassSampler"),
            **more,
        )

    return section(
        NUM_WORKERS=key(4, "processes that load images", low=0, high=128),
        K_TRANSFORMS=key(1, "views per training image", low=1, high=1024),
        RETURN_IMG0=key(False, "deliver the image without augmentation, too"),
        DECODED_MB=key(256.0, "decoded training images that a process keeps in memory, in MB; 0: none", low=0.0, high=1e9),
        TRAIN_X=training(DROP_LAST=key(True, "leave out an incomplete last batch, unless it is the only one")),
        TRAIN_U=training(SAME_AS_X=key(True, "unlabelled images are loaded as TRAIN_X says")),
        TEST=section(
            SAMPLER=key("SequentialSampler", "order of evaluated images", choices=("SequentialSampler", "RandomSampler")),
            BATCH_SIZE=key(32, "images in a batch, of all processes together", low=1),
        ),
    )


def _model():
    return section(
        INIT_WEIGHTS=key("", "file of weights that training starts from", also={"": "none"}),
        BACKBONE=section(
            NAME=key("", "the model, e.g. ViT-B/16 (--backbone)"),
            PATH=key("", "local file of its weights", also={"": "none"}),
            ACTIVATION=key(
                "",
                "activation that a CLIP's weights were trained with, where its name doesn't say it or says it wrongly",
                choices=("gelu", "quick_gelu"),
                also={"": "what the name says"},
            ),
            PRETRAINED=key(True, "start from torchvision's weights", reader="SimpleNet"),
        ),
        HEAD=section(
            NAME=key("", "layers between backbone and classifier (--head)", also={"": "none"}, reader="SimpleNet"),
            HIDDEN_LAYERS=key((), "widths of its layers", low=1, high=1_000_000, kind=int, reader="SimpleNet"),
            ACTIVATION=key("relu", "its activation", choices=("relu", "leaky_relu"), reader="SimpleNet"),
            BN=key(True, "with batch normalisation", reader="SimpleNet"),
            DROPOUT=key(0.0, "probability of its dropout", low=0.0, below=1.0, reader="SimpleNet"),
        ),
    )


def _optim():
    decay = {"low": 0.0, "below": 1.0}
    return section(
        NAME=key("adam", "the optimiser", choices=("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")),
        LR=key(0.0003, "learning rate", above=0.0, high=100.0),
        WEIGHT_DECAY=key(5e-4, "weight decay", low=0.0, high=100.0),
        MOMENTUM=key(0.9, "momentum", **decay, reader="sgd, rmsprop"),
        SGD_DAMPNING=key(0.0, "dampening of the momentum", low=0.0, high=1.0, reader="sgd"),
        SGD_NESTEROV=key(False, "Nesterov's momentum", reader="sgd"),
        RMSPROP_ALPHA=key(0.99, "decay of the mean square", **decay, reader="rmsprop"),
        ADAM_BETA1=key(0.9, "decay of the mean gradient", **decay, reader="adam, amsgrad, radam, adamw"),
        ADAM_BETA2=key(0.999, "decay of the mean square", **decay, reader="adam, amsgrad, radam, adamw"),
        ADAM_EPS=key(1e-8, "added to the root of the mean square", low=0.0, high=1.0, reader="adam, amsgrad, radam, adamw"),
        STAGED_LR=key(False, "learn at LR · BASE_LR_MULT in all layers but NEW_LAYERS"),
        NEW_LAYERS=key((), "names of layers that learn at LR", kind=str, reader="STAGED_LR"),
        BASE_LR_MULT=key(0.1, "factor on the rate of the other layers", low=0.0, high=1000.0, reader="STAGED_LR"),
        LR_SCHEDULER=key("single_step", "schedule of the learning rate", choices=("single_step", "multi_step", "cosine")),
        STEPSIZE=key((-1,), "epochs of the steps; below 1: MAX_EPOCH", low=-1, check=_steps, reader="single_step, multi_step"),
        GAMMA=key(0.1, "factor on the learning rate at a step", above=0.0, high=1.0, reader="single_step, multi_step"),
        MAX_EPOCH=key(10, "epochs of the training", low=1),
        WARMUP_EPOCH=key(-1, "epochs of the warm-up, fewer than MAX_EPOCH; 0 or -1: none", low=-1),
        WARMUP_TYPE=key("linear", "learning rate of the warm-up", choices=("constant", "linear")),
        WARMUP_CONS_LR=key(1e-5, "learning rate of a constant warm-up", above=0.0, high=100.0),
        WARMUP_MIN_LR=key(1e-5, "learning rate that a linear warm-up starts at", above=0.0, high=100.0),
        WARMUP_RECOUNT=key(True, "the schedule starts after the warm-up, rather than having run through it"),
    )  # fmt: skip


def _steps(values):
    return "" if len(values) else "must name one epoch at least"


def _test():
    return section(
        EVALUATOR=key("Classification", "the evaluator"),
        PER_CLASS_RESULT=key(False, "print the accuracy of every class"),
        COMPUTE_CMAT=key(False, "write the confusion matrix to OUTPUT_DIR/cmat.pt"),
        TOP_K=key(
            (), "also the share of images whose class is among the k highest scores, for each k named: (3, 5)", kind=int, low=1
        ),
        CALIBRATE=key(
            False,
            "probabilities are those of logits / T, T fitted to the run's validation images (temperature scaling); accuracy "
            "stays as it is",
        ),
        LABEL_THRESHOLD=key(
            0.5, "probability from which an image counts as having a label, with DATASET.MULTI_LABEL", low=0.0, high=1.0
        ),
        SAVE_PREDICTIONS=key(False, "write the scores of every evaluated image beside results.json (--save-predictions)"),
        NO_TEST=key(False, "end without an evaluation"),
        SPLIT=key("test", "what is evaluated", choices=("test", "val")),
        FINAL_MODEL=key("last_step", "the model that is evaluated after training", choices=("last_step", "best_val")),
    )
