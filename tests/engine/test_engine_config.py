"""The configuration is strict, and every error says what to write instead."""

import pytest
from yacs.config import CfgNode as YacsNode

from dassl.config import clean_cfg, get_cfg_default
from dassl.utils import UserError


def write(tmp_path, text, name="c.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_yaml_and_pairs_are_merged(tmp_path):
    cfg = get_cfg_default()
    cfg.merge_from_file(
        write(
            tmp_path,
            'INPUT:\n  SIZE: (32, 48)\n  TRANSFORMS: ["random_flip", "normalize"]\nOPTIM:\n  LR: 1\n'
            "  WARMUP_CONS_LR: 1e-5\n  SGD_NESTEROV: true\nTRAIN:\n",
        )
    )
    cfg.merge_from_list(["DATASET.NUM_SHOTS", "16", "MODEL.BACKBONE.NAME", "50", "TEST.NO_TEST", "true"])
    assert cfg.INPUT.SIZE == (32, 48)
    assert cfg.INPUT.TRANSFORMS == ("random_flip", "normalize")
    assert (cfg.OPTIM.LR, type(cfg.OPTIM.LR)) == (1.0, float)
    assert cfg.OPTIM.WARMUP_CONS_LR == 1e-5 and cfg.OPTIM.SGD_NESTEROV is True
    assert cfg.DATASET.NUM_SHOTS == 16
    assert cfg.MODEL.BACKBONE.NAME == "50"
    assert cfg.TEST.NO_TEST is True
    assert get_cfg_default().DATASET.NUM_SHOTS == -1


def test_sections_added_with_yacs_are_merged_and_frozen():
    cfg = get_cfg_default()
    cfg.TRAINER.COOP = YacsNode()
    cfg.TRAINER.COOP.CTX_INIT = ""
    cfg.merge_from_list(["TRAINER.COOP.CTX_INIT", "a photo of a"])
    assert cfg.TRAINER.COOP.CTX_INIT == "a photo of a"
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.TRAINER.COOP.CTX_INIT = ""
    assert cfg.clone().TRAINER.COOP.CTX_INIT == "a photo of a"


@pytest.mark.parametrize(
    "opts, expected",
    [
        (["OPTIM.MAX_EPOC", "5"], "OPTIM.MAX_EPOCH"),
        (["DATASET.NUM_SHOT", "5"], "DATASET.NUM_SHOTS"),
        (["BATCH_SIZE", "5"], "BATCH_SIZE"),
        (["OPTIM.MAX_EPOCH", "many"], "OPTIM.MAX_EPOCH takes a value of type int"),
        (["OPTIM.MAX_EPOCH", "2.5"], "OPTIM.MAX_EPOCH takes a value of type int"),
        (["OPTIM.MAX_EPOCH", "True"], "OPTIM.MAX_EPOCH takes a value of type int"),
        (["USE_CUDA", "1"], "USE_CUDA takes a value of type bool"),
        (["INPUT.SIZE", "224"], "INPUT.SIZE takes a value of type tuple"),
        (["OPTIM.LR"], "pairs"),
        (["OPTIM", "3"], "OPTIM is a section"),
        (["OPTIM.LR.X", "3"], "OPTIM.LR.X"),
    ],
)
def test_wrong_pairs(opts, expected):
    with pytest.raises(UserError) as e:
        get_cfg_default().merge_from_list(opts)
    assert expected in str(e.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("OPTIM:\n  LRR: 0.1\n", ["line 2", "OPTIM.LRR", "OPTIM.LR"]),
        ("OPTIM:\n  LR: fast\n", ["line 2", "OPTIM.LR", "float"]),
        ("OPTIM:\n  LR: [0.1\nTRAIN:\n", ["line 3", "not valid YAML"]),
        ("SEED: 1\nSEED: 2\n", ["line 2", "twice"]),
        ("- a\n- b\n", ["line 1"]),
        ("SEED: !!python/object/apply:os.system ['touch PWNED']\n", ["line 1", "not valid YAML"]),
    ],
)
def test_wrong_files(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, text)
    with pytest.raises(UserError) as e:
        get_cfg_default().merge_from_file(path)
    for part in [path, *expected]:
        assert part in str(e.value)
    assert not (tmp_path / "PWNED").exists()


def test_python_files_are_not_executed(tmp_path):
    path = write(tmp_path, f"open({str(tmp_path / 'PWNED')!r}, 'w')\ncfg = {{}}\n", "c.py")
    with pytest.raises(UserError):
        get_cfg_default().merge_from_file(path)
    assert not (tmp_path / "PWNED").exists()


def test_missing_file():
    with pytest.raises(UserError, match="nowhere.yaml"):
        get_cfg_default().merge_from_file("nowhere.yaml")


def test_clean_cfg():
    cfg = get_cfg_default()
    cfg.TRAINER.NAME = "MCD"
    clean_cfg(cfg, "Mcd")
    assert set(cfg.TRAINER) == {"NAME", "MCD"}
