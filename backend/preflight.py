"""`python -m backend preflight --data prepared/mine [options of train]`: what a run will take and leave, before it is begun.

Which units the linear theory lets live at beta_max, from the spectrum of the data, and around it, so that a cliff is seen; and
memory, time and disk from some real steps in a folder that is not kept.

Exit status: 0 nothing stands against it, 2 bad input, 3 the run is foreseen to collapse or does not fit.
"""

import argparse
import contextlib
import sys

import orjson

from backend.options import add_arguments as add_config_arguments
from backend.options import resolve
from backend.preflight_report import text_of
from shared.errors import InputError

DOUBTFUL = 3
SHOWN = dict.fromkeys(
    ("data_dir", "batch_size", "batch_events", "latent_dim", "width", "beta_max", "free_bits", "max_epochs", "max_steps", "devices"), ""
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of `train`, and a few of its own."""
    add_config_arguments(parser, SHOWN)
    parser.usage = "%(prog)s --data DIR [--decoder_variance X] [--json] [options of train]"
    parser.add_argument("--data", dest="data_dir", metavar="DIR", default=argparse.SUPPRESS, help="the same as --data_dir")
    parser.add_argument(
        "--decoder_variance", type=float, metavar="X",
        help="variance of a decoded value, in squared standard deviations [learned: what theory leaves unexplained]",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: when data, device or options do not fit.
    """
    config = resolve(args)
    if config.trainer.resume_from_checkpoint:
        raise InputError("preflight looks at runs that are to begin; `python -m backend diagnose RUN` at one that has")
    if args.decoder_variance is not None and args.decoder_variance <= 0:
        raise InputError(f"--decoder_variance {args.decoder_variance:g}: has to be above 0")
    from backend.preflight_figures import look_ahead

    with contextlib.redirect_stdout(sys.stderr):
        report = look_ahead(config, args.decoder_variance)
    if args.json:
        print(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())
    else:
        print(text_of(report))
    return DOUBTFUL if report.concerns else 0
