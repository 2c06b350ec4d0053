"""`python -m reproduce`: see --help."""

import argparse
import sys

from reproduce.errors import CommandError

try:
    from reproduce import demo, report, results, single, tables
except ModuleNotFoundError as missing:
    print(
        f"error: the Python package {missing.name} is not installed for {sys.executable}; `make venv` sets up .venv "
        "with all of them",
        file=sys.stderr,
    )
    sys.exit(2)


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m reproduce", description="The paper's tables and figures: runs of train.py and their results."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    single.add_arguments(commands)
    results.add_arguments(commands)
    demo.add_arguments(commands)
    tables.add_arguments(commands)
    report.add_arguments(commands)
    args = parser.parse_args(argv)
    try:
        mains = {"run": single.main, "summarise": results.main, "demo": demo.main, "report": report.main}
        return mains.get(args.command, tables.main)(args)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
