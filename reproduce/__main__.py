"""`python -m reproduce`: see --help."""
import argparse
import sys

from reproduce.errors import CommandError

try:
    from reproduce import demo, results, single
except ModuleNotFoundError as missing:
    print(f"error: the Python package {missing.name} is not installed for {sys.executable}; `make venv` sets up .venv "
          "with all of them", file=sys.stderr)
    sys.exit(2)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m reproduce", description="Runs of train.py and their results.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    single.add_arguments(commands)
    results.add_arguments(commands)
    demo.add_arguments(commands)
    args = parser.parse_args(argv)
    try:
        return {"run": single.main, "summarise": results.main, "demo": demo.main}[args.command](args)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
