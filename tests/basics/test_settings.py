"""YAML files that say what they are based on."""

import pytest

from basics import UserError
from basics.settings import read_settings
from dassl.config import get_cfg_default


def files(folder, **contents):
    for name, text in contents.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_a_file_replaces_values_of_its_base(tmp_path):
    files(tmp_path, base="OPTIM:\n  LR: 0.1\n  NAME: sgd\nSEED: 3\n")
    files(tmp_path / "method", middle="_BASE_: ../base.yaml\nOPTIM:\n  LR: 0.2\n", top="_BASE_: middle.yaml\nSEED: 4\n")
    top = str(tmp_path / "method" / "top.yaml")
    assert {key: value for key, (value, _) in read_settings(top).items()} == {"OPTIM.LR": 0.2, "OPTIM.NAME": "sgd", "SEED": 4}
    places = {key: place.rpartition("/")[2] for key, (_, place) in read_settings(top).items()}
    assert places == {"OPTIM.LR": "middle.yaml, line 3", "OPTIM.NAME": "base.yaml, line 3", "SEED": "top.yaml, line 2"}
    cfg = get_cfg_default()
    cfg.merge_from_file(top)
    assert (cfg.OPTIM.LR, cfg.OPTIM.NAME, cfg.SEED) == (0.2, "sgd", 4)


def test_of_several_bases_the_later_wins(tmp_path):
    files(tmp_path, a="SEED: 1\nVERBOSE: False\n", b="SEED: 2\n", top="_BASE_: [a.yaml, b.yaml]\nUSE_CUDA: False\n")
    found = {key: value for key, (value, _) in read_settings(str(tmp_path / "top.yaml")).items()}
    assert found == {"SEED": 2, "VERBOSE": False, "USE_CUDA": False}


def test_an_error_names_the_file_that_has_it(tmp_path):
    files(tmp_path, base="OPTIM:\n  LRR: 0.1\n", top="_BASE_: base.yaml\n")
    with pytest.raises(UserError, match=r"base.yaml, line 2: unknown key OPTIM.LRR \(did you mean OPTIM.LR\?\)"):
        get_cfg_default().merge_from_file(str(tmp_path / "top.yaml"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("_BASE_: top.yaml", "line 1: _BASE_ leads in a circle, back to .*top.yaml"),
        ("SEED: 1\n_BASE_: second.yaml", "second.yaml, line 1: _BASE_ leads in a circle, back to .*top.yaml"),
        ("_BASE_: ../gone.yaml", "top.yaml, line 1: _BASE_ names .*gone.yaml, which doesn't exist"),
        ("_BASE_: [second.yaml, 3]", "second.yaml, line 1: _BASE_ leads in a circle"),
        ("_BASE_: [3]", "line 1: _BASE_ takes the name of a YAML file or a list of names, not 3"),
        ("_BASE_:", "line 1: _BASE_ takes the name of a YAML file or a list of names, not None"),
        ("_BASE_: code.py", "code.py: a configuration is a YAML file"),
        ("_BASE_: second.yaml\n_BASE_: second.yaml", r"line 2: _BASE_ is given twice \(first on line 1\)"),
    ],
)
def test_bases_that_lead_nowhere(tmp_path, text, message):
    files(tmp_path, top=text, second="_BASE_: top.yaml\n")
    (tmp_path / "code.py").touch()
    with pytest.raises(UserError, match=message) as error:
        read_settings(str(tmp_path / "top.yaml"))
    assert "\n" not in str(error.value)
