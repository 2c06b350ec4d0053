"""What images a CLIP was trained with: size, resizing, interpolation, mean and deviation of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from basics import UserError

RESIZE_MODES = ("shortest", "squash", "longest")
INTERPOLATIONS = ("bicubic", "bilinear")
CLIPS = {  # OpenAI's images, which open_clip's configurations mean where they leave something out
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@dataclass(frozen=True)
class Preprocessing:
    """Images of a model.

    Attributes:
        size: (height, width) in pixels.
        resize_mode: how an image is brought to it: "shortest" (its shortest edge, and its middle is cut out), "squash" (both
            edges) or "longest" (its longest edge, and black is added).
        interpolation: "bicubic" or "bilinear".
        mean, std: of the channels R, G, B, whose values are in [0, 1].
    """

    size: tuple[int, int]
    resize_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, entries: Mapping[str, Any], image_size: Any, where: str) -> Preprocessing:
        """Preprocessing of open_clip's ``preprocess_cfg`` (or of a tag's entry).

        Args:
            entries: those that are left out, or None, are OpenAI's.
            image_size: pixels a side, or (height, width): the image encoder's.
            where: what has them, for messages.

        Raises:
            UserError: a value that means nothing, or that isn't computed here.
        """
        given = {**CLIPS, **{name: value for name, value in entries.items() if value is not None}}
        size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
        mean, std = (_channels(given[name], name, where) for name in ("mean", "std"))
        resize_mode, interpolation = given["resize_mode"], given["interpolation"]
        interpolation = "bicubic" if interpolation == "random" else interpolation  # in training; bicubic without
        if resize_mode not in RESIZE_MODES:
            raise UserError(f"{where}: resize_mode {resize_mode!r} is unknown; there are {', '.join(RESIZE_MODES)}")
        if interpolation not in INTERPOLATIONS:
            raise UserError(f"{where}: interpolation {interpolation!r} is unknown; there are {', '.join(INTERPOLATIONS)}")
        if given.get("mode", "RGB") != "RGB":
            raise UserError(f"{where}: images of mode {given['mode']!r}: only RGB is computed here")
        if resize_mode == "longest" and given.get("fill_color", 0) != 0:
            raise UserError(f"{where}: fill_color {given['fill_color']!r}: only 0 (black) is computed here")
        if size[0] != size[1]:
            raise UserError(f"{where}: images of {size[0]} x {size[1]} pixels: only square ones are computed here")
        return cls(size, resize_mode, interpolation, mean, std)

    def settings(self) -> dict[str, Any]:
        """{key of INPUT: value}"""
        return {
            "SIZE": self.size,
            "RESIZE_MODE": self.resize_mode,
            "INTERPOLATION": self.interpolation,
            "PIXEL_MEAN": list(self.mean),
            "PIXEL_STD": list(self.std),
        }


def _channels(value, name, where):
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
    if len(values) != 3 or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise UserError(f"{where}: {name} {value!r} must be three numbers, one a channel")
    return tuple(float(v) for v in values)
