"""Images of any kind, as a finished run takes them: from files, or from memory."""

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from basics import UserError

# Engine and torch are imported inside functions: a command line answers at once.


def in_memory(image: Any) -> bool:
    """Whether an image is an object and not the path of a file."""
    return not isinstance(image, (str, os.PathLike))


def pixels(image: Any, transform: Callable[[Any], Any], upright: bool, name: str = "") -> Any:
    """One image as the network takes it: [3, R, R].

    Args:
        image: path of a file; a PIL image; a NumPy array, uint8 or uint16, [H, W] or uint8 [H, W, 3 or 4]; a tensor, uint8
            [3 or 1, H, W], or what ``transform`` has given before (floating point, [3, R, R]).
        transform: the run's own, see ``Predictor.transform``.
        upright: turn photos as their EXIF orientation says.
        name: of an image in memory, for messages.

    Raises:
        UserError: it can't be read, or isn't of these kinds.
    """
    import numpy as np
    from PIL import Image

    from dassl.utils import as_rgb, read_image

    if not in_memory(image):
        return transform(read_image(image, upright))
    name = name or f"in memory ({type(image).__name__})"
    if hasattr(image, "is_floating_point"):  # a tensor
        if image.is_floating_point():
            return _transformed(image, transform, name)
        image = image.detach().cpu().numpy()
        if image.ndim == 3:
            image = np.ascontiguousarray(np.moveaxis(image, 0, -1)).squeeze(-1) if len(image) == 1 else np.moveaxis(image, 0, -1)
    if isinstance(image, np.ndarray):
        grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[-1] in (3, 4)
        if not (image.dtype == np.uint8 and (grey or colour)) and not (image.dtype == np.uint16 and grey):
            raise UserError(
                f"the image {name} is an array of {image.dtype} {list(image.shape)}: give uint8 [H, W], [H, W, 3] or [H, W, 4] "
                "(a tensor: [3, H, W]), so that it is clear which value is white"
            )
        image = Image.fromarray(np.ascontiguousarray(image))
    if not isinstance(image, Image.Image):
        raise UserError(f"the image {name} is neither a path nor a PIL image, an array or a tensor")
    return transform(as_rgb(image, name, upright))


def _transformed(image, transform, name):
    """A floating-point tensor, which must be what the transform gives: nothing else says how it is scaled."""
    from PIL import Image

    expected = tuple(transform(Image.new("RGB", (8, 8))).shape)
    if tuple(image.shape) != expected:
        raise UserError(
            f"the image {name} is a floating-point tensor {list(image.shape)}: give uint8 [3, H, W], or what Predictor.transform "
            f"makes of an image, {list(expected)}"
        )
    return image.detach().cpu()


class Pixels:
    """The data set of a loader: an image that can't be read is a row of zeros with a message."""

    def __init__(self, cfg: Any, data_source: Sequence[Any], transform: Any = None, is_train: bool = False) -> None:
        from dassl.data import turns_photos

        self.images, self.transform, self.upright = data_source, transform, turns_photos(cfg)
        self.size = tuple(cfg.INPUT.SIZE)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        import torch

        from dassl.utils import is_turned

        image, item = self.images[index].impath, {"index": index, "problem": "", "turned": False}
        try:
            item["img"] = pixels(image, self.transform, self.upright, f"{index} of the list")
            item["turned"] = not in_memory(image) and not self.upright and is_turned(image)
        except UserError as error:
            item.update(img=torch.zeros(3, *self.size), problem=str(error))
        return item


def loader(cfg: Any, images: Sequence[Any], transform: Any, batch_size: int) -> Any:
    """A loader of batches of images, by worker processes where there is more than one batch of files.

    Batches are dictionaries: ``img`` [B, 3, R, R], ``index`` [B], ``problem`` (B texts, "" for what was read), ``turned`` [B].
    """
    from dassl.data.data_manager import build_data_loader

    cfg = cfg.clone()
    cfg.defrost()
    batches = -(-len(images) // batch_size)
    apart = batches > 1 and not any(map(in_memory, images))
    cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, os.cpu_count() or 1, batches) if apart else 0
    items = [SimpleNamespace(impath=image) for image in images]
    return build_data_loader(cfg, "SequentialSampler", items, batch_size, tfm=transform, is_train=False, dataset_wrapper=Pixels)
