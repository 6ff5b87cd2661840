"""`python -m backend COMMAND`: prepare data. `python -m backend COMMAND --help` explains each."""

import argparse
import sys

from backend import prepare
from shared.errors import InputError

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for bad input, with a message and no traceback."""
    parser = argparse.ArgumentParser(prog="python -m backend", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    prepare.add_arguments(commands.add_parser("prepare", help="make a data set that training can map into memory"))
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
