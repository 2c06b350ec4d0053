"""Checks of a complete configuration, made once, before data and weights are touched."""

from basics import UserError, nearest

from .schema import UNREAD, keys_of, shown

# keys of INPUT of which a pre-trained model has values of its own
IMAGE_KEYS = ("SIZE", "RESIZE_MODE", "INTERPOLATION", "PIXEL_MEAN", "PIXEL_STD")


def check(cfg):
    """Raise UserError for the first declared key whose value is not allowed, by itself or beside the others."""
    check_values(cfg)
    _check_optim(cfg.OPTIM)
    _check_loader(cfg.DATALOADER)
    _check_blur(cfg.INPUT)
    _check_held_out(cfg)
    _check_multi_label(cfg)


def check_values(cfg):
    """Raise UserError for the first declared key whose value is not allowed by itself."""
    for name, known, value in keys_of(cfg):
        complaint = known.complaint(value)
        if complaint:
            raise UserError(f"{name} {shown(value)}: {complaint}{_meant(known, value)} ({known.meaning})")


def _meant(known, value):
    """ " (did you mean …?)" where a choice is misspelt."""
    entries = value if isinstance(value, (tuple, list)) else [value]
    wrong = [str(entry) for entry in entries if known.choices and entry not in known.choices]
    return nearest(wrong[0], known.choices) if wrong else ""


def _check_optim(o):
    if o.WARMUP_EPOCH >= o.MAX_EPOCH and not _is_one_epoch_try(o):
        raise UserError(
            f"OPTIM.WARMUP_EPOCH {o.WARMUP_EPOCH}: must be below OPTIM.MAX_EPOCH ({o.MAX_EPOCH}), or the whole training is "
            "warm-up; for a short try set OPTIM.WARMUP_EPOCH 0"
        )
    if o.NAME == "sgd" and o.SGD_NESTEROV and (o.MOMENTUM == 0 or o.SGD_DAMPNING != 0):
        raise UserError("OPTIM.SGD_NESTEROV True: needs an OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0")
    if o.STAGED_LR and not o.NEW_LAYERS:
        raise UserError("OPTIM.STAGED_LR True: needs OPTIM.NEW_LAYERS, the layers that learn at the full rate")
    if o.LR_SCHEDULER == "multi_step" and list(o.STEPSIZE) != sorted(set(o.STEPSIZE)):
        raise UserError(f"OPTIM.STEPSIZE {o.STEPSIZE}: must be in ascending order (epochs of the steps)")


def _is_one_epoch_try(o):
    """A recipe with its usual warm-up of one epoch, run for one epoch to see whether it works: a remark says so."""
    return o.MAX_EPOCH == o.WARMUP_EPOCH == 1


def _check_loader(loader):
    x = loader.TRAIN_X
    if x.SAMPLER == "RandomClassSampler" and x.BATCH_SIZE % x.N_INS:
        raise UserError(
            f"DATALOADER.TRAIN_X.BATCH_SIZE {x.BATCH_SIZE}: must be a multiple of N_INS ({x.N_INS}), the images of a class in a "
            "batch of RandomClassSampler"
        )


def _check_blur(c):
    if "gaussian_blur" in c.TRANSFORMS and c.GB_K // 2 >= min(c.SIZE):
        raise UserError(f"INPUT.GB_K {c.GB_K}: must be below twice the edge of an image of INPUT.SIZE {tuple(c.SIZE)} (kernel)")


def _check_held_out(cfg):
    if not cfg.DATASET.HELD_OUT:
        return
    if cfg.DATASET.SUBSAMPLE_CLASSES == "all" or cfg.TEST.SPLIT != "val":
        raise UserError(
            f"DATASET.HELD_OUT {cfg.DATASET.HELD_OUT}: divides the base classes and reads no test image: set "
            "DATASET.SUBSAMPLE_CLASSES base or new, and TEST.SPLIT val"
        )


def _check_multi_label(cfg):
    if not cfg.DATASET.MULTI_LABEL:
        return
    of_one_label = {
        "DATASET.SUBSAMPLE_CLASSES": cfg.DATASET.SUBSAMPLE_CLASSES != "all" and cfg.DATASET.SUBSAMPLE_CLASSES,
        "TEST.TOP_K": cfg.TEST.TOP_K,
        "TEST.CALIBRATE": cfg.TEST.CALIBRATE,
        "TEST.COMPUTE_CMAT": cfg.TEST.COMPUTE_CMAT,
        "DATALOADER.TRAIN_X.SAMPLER": cfg.DATALOADER.TRAIN_X.SAMPLER == "RandomClassSampler" and "RandomClassSampler",
    }
    for name, value in of_one_label.items():
        if value:
            raise UserError(f"{name} {value}: has a meaning for images of one class only; leave it out with DATASET.MULTI_LABEL")


def remarks(cfg, readers):
    """Lines about settings that are allowed but may surprise, for the head of a log.

    readers: {section: the methods that read it}, as ``trainers.readers`` gives it.
    """
    lines = []
    if _is_one_epoch_try(cfg.OPTIM):
        lines.append("WARNING: the only epoch is warm-up; for an epoch at the learning rate OPTIM.LR set OPTIM.WARMUP_EPOCH 0")
    active, passed_over = _readers_at_work(cfg, readers)
    for name, known, value in keys_of(cfg):
        reader = known.reader or readers.get(name.rpartition(".")[0], "")
        idle = reader and not set(reader.split(", ")) & active and not name.startswith(passed_over)
        if value != known.default and (reader == UNREAD or idle):
            lines.append(f"Note: {name} {shown(value)} has no effect here: it is read by {reader}")
    return lines


def _readers_at_work(cfg, readers):
    """(names of this run's readers of keys, beginnings of keys whose readers are unknown).

    Nobody knows what a method written for Dassl reads; a dataset class may be built on ImageFolder.
    """
    active = {*cfg.INPUT.TRANSFORMS, cfg.OPTIM.NAME, cfg.OPTIM.LR_SCHEDULER, cfg.TRAINER.NAME}
    active |= {cfg.DATALOADER.TRAIN_X.SAMPLER, cfg.DATALOADER.TRAIN_U.SAMPLER}
    if cfg.OPTIM.STAGED_LR:
        active.add("STAGED_LR")
    known_methods = {name for names in readers.values() for name in names.split(", ")}
    if cfg.TRAINER.NAME in known_methods:
        return active, ("DATASET.",)
    return active | {"SimpleNet", "TrainerXU"}, ("DATASET.", "TRAINER.", "LOSS.")
