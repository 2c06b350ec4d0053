"""The wheel: what is in it, that it leaves other packages alone, and that it works from an empty folder."""

import ast
import json
import zipfile

import pytest

from basics import home
from basics.hashes import source_hash

OTHERS_NAMES = {package for package in home.PACKAGES if package != "mocoop"}


@pytest.fixture(scope="module")
def sources(installed):
    """{name: source} of the modules in the wheel."""
    with zipfile.ZipFile(installed.wheel) as wheel:
        return {name: wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".py")}


def test_everything_is_below_one_name(installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
        [top] = [wheel.read(name).decode().split() for name in names if name.endswith("top_level.txt")]
    tops = {name.partition("/")[0] for name in names}
    assert top == ["mocoop"] and len(tops) == 2 and all(t == "mocoop" or t.endswith(".dist-info") for t in tops)
    for name in ("py.typed", "models/builtin/open_clip_model.safetensors", "templates/experts/eurosat_3.txt",
                 "configs/recipes/default.yaml", "reproduce/paper_tables.yaml", "datasets/builtin/atlas.png"):  # fmt: skip
        assert f"mocoop/{name}" in names


def test_files_that_the_code_reads_are_in_it(installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
    for folder, pattern in (("configs", "*.yaml"), ("templates", "*.txt"), ("reproduce", "*.json"), ("reproduce", "*.yaml")):
        files = [path.relative_to(home.PROJECT) for path in (home.PROJECT / folder).rglob(pattern)]
        assert files and {f"mocoop/{file.as_posix()}" for file in files} <= names


def test_no_absolute_import_of_ours_is_left(sources):
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {module for module in modules if module.partition(".")[0] in {*OTHERS_NAMES, "train", "predict"}}, name


def test_another_package_called_datasets_stays(installed, tmp_path):
    code = (
        "import mocoop, mocoop.datasets, mocoop.trainers, sys, datasets\n"
        "print(datasets.load_dataset('it'), mocoop.datasets.__file__, [t for t in sys.modules if t in {}])"
    )
    done = installed.run("-c", code.format(sorted(OTHERS_NAMES - {"datasets"})), cwd=tmp_path)
    assert done.stdout.split() == ["the", "Hub", "has", "it", str(installed.site / "mocoop/datasets/__init__.py"), "[]"], done
    assert (installed.site / "datasets").is_dir() and not (installed.site / "trainers").exists()


@pytest.mark.timeout(600)
def test_the_smallest_job_from_an_empty_folder(installed, tmp_path):
    words = "reproduce demo --datasets digits --methods CoOp --epochs 1 --seeds 1 --jobs 1"
    done = installed.run("-m", "mocoop", *words.split(), cwd=tmp_path)
    assert done.returncode == 0 and "digits" in done.stdout, done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "output"]
    [training] = tmp_path.glob("output/epochs_1/base2new/train_base/digits/shots_16/CoOp/builtin/seed1")
    result = json.loads((training / "results.json").read_text())
    assert result["status"] == "finished" and result["epochs"] == 1 and 20 < result["metrics"]["accuracy"] <= 100
    assert result["code"]["source_sha256"] == source_hash(installed.source, installed.source / "train.py")
    again = installed.run("-m", "mocoop", *words.split(), cwd=tmp_path)
    assert again.returncode == 0 and "2 of them finished before" in again.stdout, again


def test_commands(installed, tmp_path):
    from mocoop.__main__ import COMMANDS

    overview = installed.run("-m", "mocoop", cwd=tmp_path)
    assert overview.returncode == 0 and all(f"\n  {name} " in overview.stdout for name in COMMANDS)
    for name in (name for name, (_, before, _) in COMMANDS.items() if not before):
        done = installed.run("-m", "mocoop", name, "--help", cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.startswith(f"usage: mocoop {name} "), done
    done = installed.run("-m", "mocoop", "trian", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean train?" in done.stderr and done.stderr.count("\n") == 1
    done = installed.run("-m", "mocoop", "keys", "momentum", cwd=tmp_path)
    assert done.returncode == 0 and "`OPTIM.MOMENTUM`" in done.stdout and "`OPTIM.GAMMA`" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_ours_are_found_by_their_place_in_the_project(installed, tmp_path):
    files = ["--dataset-config-file", "configs/datasets/letters.yaml", "--config-file", "configs/trainers/CoOp/builtin.yaml"]
    done = installed.run("-m", "mocoop", "train", "--trainer", "CoOp", *files, "--no-train", "--root", "data", cwd=tmp_path)
    assert done.returncode == 0, done
    missing = installed.run("-m", "mocoop", "train", "--config-file", "configs/trainers/CoOp/builtinn.yaml", cwd=tmp_path)
    assert missing.returncode == 2 and "no such file" in missing.stderr
