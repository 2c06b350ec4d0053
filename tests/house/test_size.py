"""A class and a method's file fit on a few screens."""

import ast
from pathlib import Path

import pytest

from tests.house.test_imports import MODULES

LONGEST = 150  # lines
GIVEN = {"TrainerBase", "SimpleTrainer", "DatasetBase"}  # Dassl's API, whose classes have what trainer and dataset files expect


@pytest.mark.parametrize("name", MODULES)
def test_no_class_is_too_long(name):
    tree = ast.parse(Path(MODULES[name]).read_text(encoding="utf-8"))
    sizes = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    given = GIVEN if name.startswith("dassl.") else ()
    assert not {cls: size for cls, size in sizes.items() if size > LONGEST and cls not in given}


def lines_of_methods():
    """{module: number of lines} of all files that register a method."""
    texts = {name: Path(file).read_text(encoding="utf-8") for name, file in MODULES.items() if name.split(".")[0] == "trainers"}
    return {name: len(text.splitlines()) for name, text in texts.items() if "@TRAINER_REGISTRY.register(" in text}


def test_no_file_of_a_method_is_too_long():
    found = lines_of_methods()
    assert len(found) >= 20, "methods are found"
    assert not {name: lines for name, lines in found.items() if lines > LONGEST}


def test_names_of_test_files_differ():
    """The folders of tests are no packages: of two files with one name pytest collects neither."""
    names = [file.name for file in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
