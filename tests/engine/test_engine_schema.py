"""Declared keys: a value outside its type, range or choices is one line that names the key; nonsense is never accepted."""

import copy
import pickle

import pytest
from PIL import Image
from yacs.config import CfgNode as YacsNode

import trainers
from dassl.config import check, get_cfg_default, key, keys_of, section
from dassl.data.transforms import build_transform
from dassl.utils import UserError


def configuration(*pairs):
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.merge_from_list(list(pairs))
    return cfg


def message(*pairs):
    with pytest.raises(UserError) as error:
        check(configuration(*pairs))
    return str(error.value)


def test_defaults_are_allowed_and_every_key_is_declared():
    cfg = configuration()
    check(cfg)
    leaves = lambda node: sum(leaves(v) if isinstance(v, dict) else 1 for v in node.values())  # noqa: E731
    assert len(list(keys_of(cfg))) == leaves(cfg)
    for name, known, value in keys_of(cfg):
        assert value == known.default and known.meaning and known.range, name


@pytest.mark.parametrize("pairs, words", [
    (("OPTIM.LR", "-1"), "OPTIM.LR -1.0: must be a number above 0 and at most 100 (learning rate)"),
    (("OPTIM.LR", "1e999"), "OPTIM.LR inf: must be a number above 0"),
    (("OPTIM.LR", "1" + 400 * "0"), "OPTIM.LR takes a value of type float"),
    (("OPTIM.MOMENTUM", "1.0"), "at least 0 and below 1"),
    (("TEST.SPLIT", "tset"), 'TEST.SPLIT "tset": must be one of test, val (did you mean test?)'),
    (("TEST.FINAL_MODEL", "best"), "must be one of last_step, best_val"),
    (("SEED", str(2**32)), "SEED 4294967296: must be a whole number from 0 to 4294967295, or -1"),
    (("SEED", "-2"), "SEED -2: must be"),
    (("DATALOADER.TRAIN_X.BATCH_SIZE", "0"), "at least 1"),
    (("DATALOADER.TEST.BATCH_SIZE", str(10**30)), "DATALOADER.TEST.BATCH_SIZE 1000"),
    (("DATALOADER.TEST.SAMPLER", "RandomClassSampler"), "must be one of SequentialSampler, RandomSampler"),
    (("DATASET.NUM_SHOTS", "0"), "at least 1, or -1 (all)"),
    (("INPUT.SIZE", "(224, 224.5)"), "2 whole numbers, each from 1 to"),
    (("INPUT.SIZE", "(224,)"), "2 whole numbers"),
    (("INPUT.PIXEL_STD", "[0, 0, 0]"), "3 numbers, each above 0"),
    (("INPUT.RRCROP_SCALE", "(1.0, 0.5)"), "must be in ascending order"),
    (("INPUT.GB_K", "20"), "must be odd"),
    (("INPUT.GB_K", "513", "INPUT.TRANSFORMS", "('gaussian_blur',)"), "must be below twice the edge"),
    (("INPUT.TRANSFORMS", "('random_flp',)"), "did you mean random_flip?"),
    (("INPUT.TRANSFORMS", "('random_flip', 3)"), "a list of texts"),
    (("OPTIM.MAX_EPOCH", "0"), "OPTIM.MAX_EPOCH 0: must be"),
    (("OPTIM.WARMUP_EPOCH", "10"), "OPTIM.WARMUP_EPOCH 10: must be below OPTIM.MAX_EPOCH (10)"),
    (("OPTIM.NAME", "sgd", "OPTIM.SGD_NESTEROV", "True", "OPTIM.MOMENTUM", "0.0"), "OPTIM.SGD_NESTEROV True: needs"),
    (("OPTIM.STAGED_LR", "True"), "needs OPTIM.NEW_LAYERS"),
    (("OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", "(5, 2)"), "in ascending order"),
    (("OUTPUT_DIR", " "), "must not be empty"),
    (("TRAINER.COOP.N_CTX", "0"), "TRAINER.COOP.N_CTX 0: must be a whole number from 1"),
    (("TRAINER.COOP.PREC", "fp8"), "must be one of fp32, fp16, amp, bf16"),
    (("TRAINER.COOP.CTX_INIT", " "), 'must be words, or ""'),
    (("TRAINER.COOP.CTX_INIT", "___"), 'must be words, or ""'),
    (("TRAINER.COOP.CTX_INIT", "none"), "is no beginning of a prompt"),
    (("TRAINER.COCOOP.CTX_INIT", "a photo of a {}."), "without {}"),
    (("TRAINER.COOP.CTX_INIT", "16"), "TRAINER.COOP.CTX_INIT 16: must be a text"),
    (("TRAINER.MOCOOP.TAU", "-0.1"), "temperature"),
    (("LOSS.T", "0"), "LOSS.T 0.0: must be a number above 0"),
], ids=lambda value: str(value)[:60])  # fmt: skip
def test_wrong_values(pairs, words):
    assert words in message(*pairs)


@pytest.mark.parametrize("pairs", [
    ("TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.CTX_INIT", "False"),
    ("TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.CTX_INIT", ""),
    ("TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.CTX_INIT", "None"),
])  # fmt: skip
def test_no_words(pairs):
    cfg = configuration(*pairs)
    check(cfg)
    assert not cfg.TRAINER.COOP.CTX_INIT


def test_declarations_survive_copies():
    cfg = pickle.loads(pickle.dumps(copy.deepcopy(configuration().clone())))
    cfg.OPTIM.LR = -1.0
    with pytest.raises(UserError, match="OPTIM.LR"):
        check(cfg)


def test_sections_of_other_programs_have_no_declaration():
    cfg = configuration()
    cfg.TRAINER.COOP = YacsNode({"N_CTX": -5, "DEPTH": 9})
    cfg.OPTIM.EXTRA = 3
    cfg.merge_from_list(["TRAINER.COOP.N_CTX", "-7", "OPTIM.EXTRA", "4"])
    check(cfg)
    assert cfg.TRAINER.COOP.N_CTX == -7


def test_a_section_of_one_line():
    cfg = configuration()
    cfg.TRAINER.MINE = section(WIDTH=key(4, "width of it", low=1), INNER=section(KIND=key("a", "kind", choices=("a", "b"))))
    cfg.TRAINER.MINE.MORE = key(0.5, "more", low=0.0, below=1.0)
    assert (cfg.TRAINER.MINE.WIDTH, cfg.TRAINER.MINE.INNER.KIND, cfg.TRAINER.MINE.MORE) == (4, "a", 0.5)
    for name, value in (("WIDTH", 0), ("INNER.KIND", "c"), ("MORE", 1.0)):
        wrong = cfg.clone()
        wrong.merge_from_list([f"TRAINER.MINE.{name}", value])
        with pytest.raises(UserError, match=f"TRAINER.MINE.{name}"):
            check(wrong)


def test_crop_larger_than_an_image():
    cfg = configuration("INPUT.TRANSFORMS", "('random_crop', 'normalize')", "INPUT.SIZE", "(32, 32)", "INPUT.CROP_PADDING", "0")
    with pytest.raises(UserError, match="random_crop: Required crop size"):
        build_transform(cfg)(Image.new("RGB", (8, 8)))


def test_a_section_is_no_value():
    assert "TRAINER.COOP.CTX_INIT takes a value" in message("TRAINER.COOP.CTX_INIT", "{}")
