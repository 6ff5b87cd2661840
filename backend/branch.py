"""`python -m backend resume runs/NAME --remedy beta_cut`: back to before a collapse, and on from there with a remedy.

Takes the best checkpoint from before the onset (by validation score, else the latest; the first step where there is none) and
trains on in a new run folder; the other run is not touched. Without --remedy the first that the verdict names. The new run.json
says under `lineage` where it comes from. Options that are not given are the other run's own.
"""

import argparse
from pathlib import Path

from backend.options import add_arguments as add_config_arguments
from backend.options import existing, resolve
from shared.errors import InputError
from shared.layout import RunLayout

OWN = "the other run's"
SHOWN = {
    "remedy": "the first that the verdict names", "beta_max": OWN, "free_bits": OWN, "learning_rate": OWN, "max_epochs": OWN,
    "max_steps": OWN, "output_dir": OWN,
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command: those of `train` besides."""
    parser.add_argument("target", type=Path, metavar="RUN", help="the run folder to go back in")
    parser.add_argument(
        "--from", type=Path, dest="start", metavar="CKPT", help="one of its checkpoints [the best from before the onset]"
    )
    add_config_arguments(parser, SHOWN)
    parser.usage = "%(prog)s RUN [--remedy NAME] [--from CKPT] [options of train]"
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command: check all options, then go back and train; returns the exit status of `train`."""
    resolve(args)  # mistakes are answered before torch is loaded; checked again over the run's own configuration
    layout = RunLayout(existing(args.target, "run folder"))
    if not layout.run_json.exists():
        raise InputError(f"{args.target}: not a run folder (no {layout.run_json.name} in it)")
    from backend.branching import go_back

    return go_back(args)
