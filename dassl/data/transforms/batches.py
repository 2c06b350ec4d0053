"""The last steps of a chain of transforms, which draw nothing at random, on all images of a batch together."""

import numpy as np
import torch
from PIL.Image import Image
from torchvision import transforms as T
from torchvision.transforms import functional


def split(transform):
    """Split a transform that ends with torchvision's ToTensor, or with its ToTensor and Normalize, before these.

    Returns:
        (transform from image to image, function from a list of images to the list of their tensors); (``transform``, None) if it
        ends in another way.
    """
    steps = list(transform.transforms) if type(transform) is T.Compose else []
    normalize = steps.pop() if steps and type(steps[-1]) is T.Normalize else None
    if not steps or type(steps[-1]) is not T.ToTensor:
        return transform, None
    return T.Compose(steps[:-1]), lambda images: tensors(images, normalize)


def tensors(images, normalize=None):
    """Tensors [C, H, W] of images, of PIL or as arrays [H, W, C]: ToTensor, then ``normalize`` unless it is None.

    They are the same to the bit as one by one.
    """
    if any(not isinstance(image, Image) or image.mode != "RGB" or image.size != images[0].size for image in images):
        each = [functional.to_tensor(image) for image in images]
        return [normalize(image) for image in each] if normalize else each
    batch = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()
    batch = batch.to(torch.get_default_dtype()).div_(255)
    if normalize:
        functional.normalize(batch, normalize.mean, normalize.std, inplace=True)
    return list(batch)
