"""Methods' YAML files: each says only what differs from its bases, and its head leads to itself."""

import re
import shlex

import pytest

from basics import home
from basics.program import Parser
from basics.settings import BASE, read_settings
from reproduce import single

FILES = sorted((home.PROJECT / "configs" / "trainers").glob("*/*.yaml"))


def head_of(file):
    return "\n".join(line[1:].strip() for line in file.read_text().split("\n") if line.startswith("#"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_a_file_says_what_differs_from_its_bases(file):
    text = file.read_text()
    bases = re.search(rf"^{BASE}: \[?([^\]\n]*)\]?$", text, flags=re.MULTILINE)[1].split(", ")
    inherited, whole = {}, read_settings(str(file))
    for base in bases:
        inherited.update(read_settings(str(file.parent / base)))
    own = {key: value for key, (value, place) in whole.items() if place.startswith(f"{file},")}
    assert own and not [key for key, value in own.items() if key in inherited and inherited[key][0] == value]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_command_of_a_head_uses_this_file(file, monkeypatch):
    head = head_of(file)
    command = head.split("Command: ")[1].replace("\n", " ")
    assert "Score: " in head and "Cost: " in head
    if command.startswith("python train.py"):
        assert str(file.relative_to(home.PROJECT)) in command
        return
    words = shlex.split(command)
    for name in ("TRAINER", "CFG", "SHOTS", "SOURCE"):
        monkeypatch.delenv(name, raising=False)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("="))
    bash, script, *arguments = words
    assert bash == "bash" and (home.PROJECT / script).is_file()
    parser = Parser()
    single.add_arguments(parser.add_subparsers())
    kind = script.removeprefix("scripts/").removesuffix(".sh")
    runs = single.runs_of(parser.parse_args(["run", kind, *arguments]))
    assert {(run.trainer, run.cfg) for run in runs} == {(file.parent.name, file.stem)}
