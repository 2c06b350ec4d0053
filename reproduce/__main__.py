"""`python -m reproduce`: see --help."""

import sys

from basics import home, program
from basics.program import EXIT_STATUSES, Parser


def run(argv):
    from reproduce import calibration, demo, report, results, single, tables, tune  # here, where a missing package is explained

    parser = Parser(
        prog=home.command("reproduce"),
        description="The paper's tables and figures: runs of train.py and their results.",
        epilog=EXIT_STATUSES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    single.add_arguments(commands)
    results.add_arguments(commands)
    calibration.add_arguments(commands)
    demo.add_arguments(commands)
    tune.add_arguments(commands)
    tables.add_arguments(commands)
    report.add_arguments(commands)
    args = parser.parse_args(argv)
    mains = {
        "run": single.main,
        "summarise": results.main,
        "calibration": calibration.main,
        "demo": demo.main,
        "report": report.main,
        "tune": tune.main,
    }
    return mains.get(args.command, tables.main)(args)


def main(argv=None):
    """Run one command line; returns the exit status."""
    return program.run(lambda: run(argv), "; the same command goes on where it stopped")


if __name__ == "__main__":
    sys.exit(program.as_process(main))
