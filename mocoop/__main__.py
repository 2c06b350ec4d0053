"""The command ``mocoop``: all commands of the project under one name, from any folder."""

import importlib.metadata
import sys

from basics import UserError, home, nearest
from basics.program import as_process
from basics.program import run as run_program

COMMANDS = {  # name: (module with main(argv), words before the user's, what it does)
    "train": ("train", [], "train or evaluate one method on one data set"),
    "predict": ("predict", [], "classify images with a finished run"),
    "export": ("inference.export", [], "write a trained classifier for other programs"),
    "reproduce": ("reproduce.__main__", [], "runs, tables and figures; `mocoop reproduce demo` needs no download"),
    "tune": ("reproduce.__main__", ["tune"], "choose settings on validation images"),
    "check": ("datasets.check", [], "say whether a data set is complete"),
    "download": ("datasets.download", [], "fetch data sets"),
    "groups": ("prompting.group_templates", [], "group templates for MoCoOp"),
    "hub": ("inference.hub", [], "put a run on the Hugging Face Hub, or fetch one"),
    "distil": ("inference.distil", [], "a MoCoOp run as one matrix with a row for each class"),
    "keys": ("train", ["--keys"], "say what the keys of the configuration are, or those with a word in them"),
}
HELP = f"""usage: mocoop COMMAND ...

{{commands}}

`mocoop COMMAND --help` says more. Data sets are looked for in `data` and results written to `output`, in {home.OWN},
unless options or variables say otherwise. Files of your own in `configs`, `templates`, `trainers`, `datasets` and `foreign` of
{home.OWN} are found, too."""


def overview() -> str:
    """The help text: a line for each command."""
    return HELP.format(commands="\n".join(f"  {name:<10} {about}" for name, (_, _, about) in COMMANDS.items()))


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    name, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "--version"):
        return run_program(lambda: print(importlib.metadata.version("mocoop") if name == "--version" else overview()))
    if name not in COMMANDS:
        return run_program(lambda: _unknown(name))
    module, before, _ = COMMANDS[name]
    sys.argv = [f"mocoop {name}", *words]  # pages and records name the command that made them
    return home.module(module).main([*before, *words])


def _unknown(name):
    raise UserError(f"mocoop: there is no command {name!r}{nearest(name, COMMANDS)}; there are {', '.join(COMMANDS)}")


def program() -> int:
    """``main`` for a process of its own; returns the exit status."""
    return as_process(main)


if __name__ == "__main__":
    sys.exit(program())
