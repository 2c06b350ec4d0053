"""Letters: the alphabet with a systematic shift from pre-training, and four test-only variants; built in."""

from dassl.data.datasets import DATASET_REGISTRY

from .builtin.base import BuiltinDataset, BuiltinTestSet


@DATASET_REGISTRY.register()
class Letters(BuiltinDataset):
    """`letters/images/<class>/<part>_<number>.png`, made on first use; see `datasets/builtin/sets.py`."""

    dataset_dir = "letters"
    split_file = "split_zhou_Letters.json"
    counts = (26, 1040, 208, 780)


@DATASET_REGISTRY.register()
class LettersSketch(BuiltinTestSet):
    """New images of the same letters, all in the style "sketch"."""

    dataset_dir = "letters_sketch"
    variant_of = "letters"
    counts = (26, 520, 0, 520)


@DATASET_REGISTRY.register()
class LettersDark(BuiltinTestSet):
    """New images of the same letters, all in the style "dark"."""

    dataset_dir = "letters_dark"
    variant_of = "letters"
    counts = (26, 520, 0, 520)


@DATASET_REGISTRY.register()
class LettersBlurry(BuiltinTestSet):
    """New images of the same letters, all in the style "blurry"."""

    dataset_dir = "letters_blurry"
    variant_of = "letters"
    counts = (26, 520, 0, 520)


@DATASET_REGISTRY.register()
class LettersPainting(BuiltinTestSet):
    """New images of the same letters, all in the style "painting"."""

    dataset_dir = "letters_painting"
    variant_of = "letters"
    counts = (26, 520, 0, 520)
