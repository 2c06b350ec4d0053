"""Builds the chain of image transforms that ``cfg.INPUT`` names."""

import torch
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode, functional

from ...utils import UserError, nearest

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


class Random2DTranslation:
    """With probability ``p``, enlarge to 1.125 times (height, width) and crop at random; otherwise only resize."""

    def __init__(self, height, width, p=0.5, interpolation=InterpolationMode.BILINEAR):
        size = (height, width)
        self.p = p
        self.plain = T.Resize(size, interpolation)
        self.moved = T.Compose([T.Resize([round(x * 1.125) for x in size], interpolation), T.RandomCrop(size)])

    def __call__(self, img):
        return self.moved(img) if torch.rand(1) < self.p else self.plain(img)


class RandomCrop(T.RandomCrop):
    """torchvision's, with an error for images that are smaller than the crop."""

    def forward(self, img):
        try:
            return super().forward(img)
        except ValueError as e:
            raise UserError(f"INPUT.TRANSFORMS random_crop: {e}; random_resized_crop takes images of any size") from e


class ResizeAndPad:
    """Enlarge or reduce an image until it just fits into ``size`` (height, width), and add black around it."""

    def __init__(self, size, interpolation):
        self.size, self.interpolation = tuple(size), interpolation

    def __call__(self, img):
        height, width = self.size
        ratio = max(img.height / height, img.width / width)
        inner = [round(img.height / ratio), round(img.width / ratio)]
        return functional.center_crop(functional.resize(img, inner, self.interpolation), list(self.size))  # which pads


class InstanceNormalization:
    """Normalise an image [C, H, W] by its own mean and standard deviation per channel."""

    def __init__(self, eps=1e-8):
        self.eps = eps

    def __call__(self, img):
        mean, std = img.mean((1, 2), keepdim=True), img.std((1, 2), keepdim=True)
        return (img - mean) / (std + self.eps)


class Cutout:
    """Set ``n_holes`` squares of ``length`` pixels, at random centres of an image [C, H, W], to zero."""

    def __init__(self, n_holes=1, length=16):
        self.n_holes = n_holes
        self.length = length

    def __call__(self, img):
        img, half = img.clone(), self.length // 2
        _, h, w = img.shape
        for _ in range(self.n_holes):
            y, x = torch.randint(h, (1,)).item(), torch.randint(w, (1,)).item()
            img[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return img


class GaussianNoise:
    """With probability ``p``, add Gaussian noise to an image tensor."""

    def __init__(self, mean=0, std=0.15, p=0.5):
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, img):
        return img + torch.randn_like(img) * self.std + self.mean if torch.rand(1) < self.p else img


class RandomOperations:
    """``n`` random operations of random strength (torchvision's TrivialAugmentWide), each with probability ``p``."""

    def __init__(self, n=2, p=1.0):
        self.n, self.p = n, p
        self.operation = T.TrivialAugmentWide()

    def __call__(self, img):
        for _ in range(self.n):
            if torch.rand(1) < self.p:
                img = self.operation(img)
        return img


def _policy(name, policy):
    return lambda c: (f"{name} policy", T.AutoAugment(policy))


# choice → cfg.INPUT → (line of the log, transform), in the order in which they are applied to the PIL image
_ON_IMAGE = {
    "random_translation": lambda c: ("random translation", Random2DTranslation(*c.SIZE)),
    "random_crop": lambda c: (
        f"random crop (padding = {c.CROP_PADDING})",
        RandomCrop(c.SIZE, padding=c.CROP_PADDING),
    ),
    "random_resized_crop": lambda c: (
        f"random resized crop (size={c.SIZE}, scale={c.RRCROP_SCALE})",
        T.RandomResizedCrop(c.SIZE, scale=c.RRCROP_SCALE, interpolation=INTERPOLATION_MODES[c.INTERPOLATION]),
    ),
    "random_flip": lambda c: ("random flip", T.RandomHorizontalFlip()),
    "imagenet_policy": _policy("imagenet", T.AutoAugmentPolicy.IMAGENET),
    "cifar10_policy": _policy("cifar10", T.AutoAugmentPolicy.CIFAR10),
    "svhn_policy": _policy("svhn", T.AutoAugmentPolicy.SVHN),
    "randaugment": lambda c: (
        f"randaugment (n={c.RANDAUGMENT_N}, m={c.RANDAUGMENT_M})",
        T.RandAugment(c.RANDAUGMENT_N, c.RANDAUGMENT_M),
    ),
    "randaugment_fixmatch": lambda c: (
        f"randaugment_fixmatch (n={c.RANDAUGMENT_N})",
        RandomOperations(c.RANDAUGMENT_N),
    ),
    "randaugment2": lambda c: (f"randaugment2 (n={c.RANDAUGMENT_N})", RandomOperations(c.RANDAUGMENT_N, p=0.6)),
    "colorjitter": lambda c: (
        f"color jitter (brightness={c.COLORJITTER_B}, contrast={c.COLORJITTER_C}, "
        f"saturation={c.COLORJITTER_S}, hue={c.COLORJITTER_H})",
        T.ColorJitter(c.COLORJITTER_B, c.COLORJITTER_C, c.COLORJITTER_S, c.COLORJITTER_H),
    ),
    "randomgrayscale": lambda c: ("random gray scale", T.RandomGrayscale(p=c.RGS_P)),
    "gaussian_blur": lambda c: (
        f"gaussian blur (kernel={c.GB_K})",
        T.RandomApply([T.GaussianBlur(c.GB_K)], p=c.GB_P),
    ),
}
# … and to the tensor [C, H, W]
_ON_TENSOR = {
    "cutout": lambda c: (f"cutout (n_holes={c.CUTOUT_N}, length={c.CUTOUT_LEN})", Cutout(c.CUTOUT_N, c.CUTOUT_LEN)),
    "normalize": lambda c: (
        f"normalization (mean={c.PIXEL_MEAN}, std={c.PIXEL_STD})",
        T.Normalize(mean=c.PIXEL_MEAN, std=c.PIXEL_STD),
    ),
    "gaussian_noise": lambda c: (
        f"gaussian noise (mean={c.GN_MEAN}, std={c.GN_STD})",
        GaussianNoise(c.GN_MEAN, c.GN_STD),
    ),
    "instance_norm": lambda c: ("instance normalization", InstanceNormalization()),
}
# center_crop is part of every test transform; as a choice it is accepted, as in Dassl
AVAI_CHOICES = [*_ON_IMAGE, *_ON_TENSOR, "center_crop"]


def build_transform(cfg, is_train=True, choices=None):
    """Return the transform for training or testing, or None with ``INPUT.NO_TRANSFORM``; prints what it consists of.

    ``choices``: names to use in place of ``cfg.INPUT.TRANSFORMS``.
    """
    c = cfg.INPUT
    if c.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = c.TRANSFORMS if choices is None else choices
    for choice in choices:
        if choice not in AVAI_CHOICES:
            raise UserError(
                f'INPUT.TRANSFORMS: unknown transform "{choice}"{nearest(choice, AVAI_CHOICES)}; '
                f"choose from: {', '.join(AVAI_CHOICES)}"
            )
    print(f"Building transform_{'train' if is_train else 'test'}")
    steps = _train_head(c, choices) if is_train else _test_head(c)
    steps.append(("to torch tensor of range [0, 1]", T.ToTensor()))
    on_tensor = _ON_TENSOR if is_train else ("normalize", "instance_norm")
    steps += [_ON_TENSOR[name](c) for name in on_tensor if name in choices]
    for line, _ in steps:
        print(f"+ {line}")
    return T.Compose([transform for _, transform in steps])


def _train_head(c, choices):
    steps = []
    if "random_crop" not in choices and "random_resized_crop" not in choices:
        resize = T.Resize(c.SIZE, interpolation=INTERPOLATION_MODES[c.INTERPOLATION])
        steps.append((f"resize to {c.SIZE[0]}x{c.SIZE[1]}", resize))
    return steps + [make(c) for name, make in _ON_IMAGE.items() if name in choices]


def _test_head(c):
    edge, interpolation = max(c.SIZE), INTERPOLATION_MODES[c.INTERPOLATION]
    if c.RESIZE_MODE == "squash":
        return [(f"resize to {c.SIZE[0]}x{c.SIZE[1]}", T.Resize(c.SIZE, interpolation=interpolation))]
    if c.RESIZE_MODE == "longest":
        return [(f"resize to fit into {c.SIZE[0]}x{c.SIZE[1]}, black around it", ResizeAndPad(c.SIZE, interpolation))]
    return [
        (f"resize the smaller edge to {edge}", T.Resize(edge, interpolation=interpolation)),
        (f"{c.SIZE[0]}x{c.SIZE[1]} center crop", T.CenterCrop(c.SIZE)),
    ]
