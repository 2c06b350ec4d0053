"""Whose images a run makes: those that its CLIP was trained with, unless the configuration says otherwise on purpose.

INPUT.PREPROCESS decides between the model's SIZE, RESIZE_MODE, INTERPOLATION, PIXEL_MEAN and PIXEL_STD and those of the
configuration. A key that nothing sets has the model's value in every case but ``yaml``.
"""

from typing import Any

from basics import UserError
from dassl.config import IMAGE_KEYS, was_given
from prompting import Preprocessing, backbone_of, known_backbone


def settle(cfg: Any) -> None:
    """Put the model's images into a configuration that isn't frozen, where it leaves them to the model.

    A backbone that isn't a CLIP's is left alone.
    """
    backbone = known_backbone(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PATH)
    if backbone and backbone.images:
        for name, value in _of_the_model(cfg, backbone.images).items():
            cfg.INPUT[name] = value


def _of_the_model(cfg, images: Preprocessing) -> dict[str, Any]:
    """{key of INPUT: the model's value} of those that the configuration leaves to the model."""
    asked = cfg.INPUT.PREPROCESS
    own = images.settings().items()
    return {name: value for name, value in own if asked == "model" or (asked == "check" and not was_given(cfg.INPUT, name))}


def settled(cfg: Any, own_model: bool = False) -> Any:
    """The configuration with the model's images where it leaves them to the model; prints what is taken.

    Args:
        cfg: complete, frozen or not; it stays as it is.
        own_model: the trainer loads CLIP itself, which refuses images of another size, and the backbone may be unknown here.

    Raises:
        UserError: a key is set to another value than the model's, and INPUT.PREPROCESS doesn't say that it is meant; nothing
            is known of the model's images, and the configuration doesn't set them.
    """
    name, path = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PATH
    if own_model and cfg.MODEL.BACKBONE.ACTIVATION:
        print(f"Note: MODEL.BACKBONE.ACTIVATION has no effect here: {cfg.TRAINER.NAME} loads CLIP itself")
    if not name:
        return cfg
    backbone = known_backbone(name, path) if own_model else backbone_of(name, path)
    if backbone is None or backbone.images is None:
        return _unknown(cfg, name, own_model and backbone is None)
    taken = _of_the_model(cfg, backbone.images)
    differing = {
        key: (cfg.INPUT[key], value)
        for key, value in backbone.images.settings().items()
        if key not in taken and not _equal(cfg.INPUT[key], value)
    }
    differing.pop("SIZE", None)  # a file of weights may be of another size than its name; the model that was built is asked
    text = ", ".join(f"INPUT.{key} {_plain(value)} (the model's: {_plain(own)})" for key, (value, own) in differing.items())
    if differing and cfg.INPUT.PREPROCESS != "yaml":
        raise UserError(
            f"{text}: {name} was trained with other images, says {backbone.said_by}; INPUT.PREPROCESS model takes its own, "
            "INPUT.PREPROCESS yaml what is set"
        )
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in taken.items():
        cfg.INPUT[key] = value
    cfg.freeze()
    if differing:
        print(f"WARNING: INPUT.PREPROCESS yaml: {text}, says {backbone.said_by}")
    else:
        print(f"Images as {name} was trained with: {described(cfg)} (as {backbone.said_by} says)")
    return cfg


def described(cfg: Any) -> str:
    """A configuration's images in words."""
    c = cfg.INPUT
    return (
        f"{c.SIZE[0]} x {c.SIZE[1]}, resize {c.RESIZE_MODE}, {c.INTERPOLATION}, mean {_plain(c.PIXEL_MEAN)}, std "
        f"{_plain(c.PIXEL_STD)}"
    )


def check_size(cfg: Any, clip: Any) -> None:
    """UserError for images of another size than the CLIP that was loaded takes."""
    size, name = (clip.image_size,) * 2, cfg.MODEL.BACKBONE.NAME
    if tuple(cfg.INPUT.SIZE) != size:
        raise UserError(f"INPUT.SIZE {tuple(cfg.INPUT.SIZE)} doesn't fit the backbone {name}, which takes {size}")


def images_record(cfg: Any, clip: Any) -> dict[str, Any]:
    """What a record says of the images: whose they are, and {key: [value, the model's]} of those that aren't the model's."""
    own = clip.weights.get("images") or {}
    values = {key: (cfg.INPUT[key], own[key]) for key in IMAGE_KEYS if key in own}
    differing = {f"INPUT.{key}": [_plain(a), _plain(b)] for key, (a, b) in values.items() if not _equal(a, b)}
    return {"preprocess": cfg.INPUT.PREPROCESS, "images_differ": differing}


def _unknown(cfg, name, of_others):
    missing = [f"INPUT.{key}" for key in IMAGE_KEYS if not was_given(cfg.INPUT, key) and key != "RESIZE_MODE"]
    if missing and not of_others:
        raise UserError(
            f"nothing says which images {name} was trained with, so {', '.join(missing)} must be set: the defaults aren't meant "
            "for a CLIP"
        )
    kind = "Note" if of_others and cfg.INPUT.PREPROCESS != "model" else "WARNING"
    print(f"{kind}: nothing says which images {name} was trained with; they are made as configured: {described(cfg)}")
    return cfg


def _equal(a, b):
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return len(a) == len(b) and all(abs(x - y) < 1e-6 for x, y in zip(a, b))


def _plain(value):
    return list(value) if isinstance(value, (tuple, list)) else value
