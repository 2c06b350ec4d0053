"""What holds for every registered method, whoever adds it."""

import fnmatch
import inspect
import re

import pytest

import datasets
import trainers
from basics import UserError
from dassl.config import check, get_cfg_default, remarks
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, TrainerX
from learning import ImageLearning, PromptTrainer
from learning.image_side import resolved_learning
from tests.trainers.conftest import PROJECT
from tests.trainers.test_trainers import METHODS

OURS = [name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")]


@pytest.fixture(scope="module")
def defaults():
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    return cfg


def test_none_of_our_files_is_left_out():
    assert datasets and TRAINER_REGISTRY.left_out == DATASET_REGISTRY.left_out == {}


def test_a_class_whose_keys_cannot_be_added_stops_only_what_needs_it(monkeypatch, capsys):
    class Odd(TrainerX):
        @staticmethod
        def extend_cfg(cfg):
            cfg.TRAINER.ODD = undefined  # noqa: F821

    for name, value in (("_obj_map", dict(TRAINER_REGISTRY._obj_map)), ("left_out", {})):
        monkeypatch.setattr(TRAINER_REGISTRY, name, value)
    TRAINER_REGISTRY.register(Odd)
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg, "CoOp")
    assert "COOP" in cfg.TRAINER and "Odd of " in (note := capsys.readouterr().err) and "NameError: name 'undefined'" in note
    with pytest.raises(UserError, match='unknown trainer "Odd".*Odd of .* is left out: NameError'):
        TRAINER_REGISTRY.get("Odd")
    TRAINER_REGISTRY.register(Odd)
    with pytest.raises(NameError):
        trainers.extend_cfg(get_cfg_default(), "Odd")


def test_every_method_is_trained_saved_and_loaded_by_a_test():
    assert set(OURS) == set(METHODS)


@pytest.mark.parametrize("name", OURS)
def test_a_method_says_what_it_is(name, defaults):
    cls = TRAINER_REGISTRY.get(name)
    assert issubclass(cls, PromptTrainer) and vars(cls).get("__doc__"), "a docstring of its own"
    assert "PREC" in defaults.TRAINER[cls.section]
    assert isinstance(inspect.getattr_static(cls, "image_learning"), (ImageLearning, property))
    assert isinstance(cls.knows_its_classes_only(defaults), bool)


@pytest.mark.parametrize("name", OURS)
def test_a_method_declares_what_it_learns_on_images(name, defaults):
    trainer = object.__new__(TRAINER_REGISTRY.get(name))
    trainer.cfg = defaults
    assert resolved_learning(trainer) is not ImageLearning.UNDECLARED


@pytest.mark.parametrize("name", OURS)
def test_a_method_has_files_whose_keys_are_known(name, defaults):
    files = sorted((PROJECT / "configs" / "trainers" / name).glob("*.yaml"))
    assert f"{METHODS[name]}.yaml" in [file.name for file in files]
    for file in files:
        cfg = defaults.clone()
        cfg.merge_from_file(str(file))
        cfg.TRAINER.NAME = name
        check(cfg)
        assert not [line for line in remarks(cfg, trainers.readers()) if " TRAINER." in line], file


@pytest.mark.parametrize("name", OURS)
def test_a_method_stands_in_the_readme(name):
    assert name in (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_page_of_methods_has_a_row_each_and_names_golden_cases():
    rows = [line for line in (PROJECT / "docs" / "methods.md").read_text(encoding="utf-8").split("\n") if line.startswith("|")]
    names = " ".join(row.split("|")[1] for row in rows)
    assert [name for name in OURS if not re.search(rf"\b{name}\b", names)] == []
    cases = {path.stem for path in (PROJECT / "tests" / "golden").rglob("*.json")}
    for row in rows[2:]:
        for word in re.findall(r"[a-z0-9]+_[a-z0-9_*]+", row.split("|")[5]):
            assert fnmatch.filter(cases, word), word
