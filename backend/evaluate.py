"""`python -m backend evaluate runs/NAME/checkpoints/final_step-000001000.ckpt --data prepared/demo --split test`.

Prints the scores as JSON and writes them beside the checkpoint.
"""

import argparse
from pathlib import Path

import orjson

from backend.options import existing
from shared.dataset import SPLITS
from shared.errors import InputError
from shared.writer import replace_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file of a run")
    parser.add_argument("--data", type=Path, help="prepared data set, or the older layout [what the run was trained on]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="[valid]")
    parser.add_argument("--batch_size", type=int, default=32, help="stays per batch [32]")
    parser.add_argument("--output", type=Path, help="where the JSON goes [beside the checkpoint]")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: a missing or foreign checkpoint, another data set, an empty split.
    """
    if args.batch_size < 1:
        raise InputError(f"--batch_size {args.batch_size}: at least 1")
    existing(args.checkpoint, "checkpoint")
    from backend.evaluation import report_on

    report = report_on(args.checkpoint, args.split, args.data, args.batch_size)
    text = orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"
    target = args.output or args.checkpoint.with_name(f"{args.checkpoint.stem}.{args.split}.eval.json")
    try:
        replace_atomically(target, text)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another --output") from error
    print(text.decode(), end="")
    return 0
