"""A class fits on a few screens."""

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


def test_names_of_test_files_differ():
    """The folders of tests are no packages: of two files with one name pytest collects neither."""
    names = [file.name for file in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
