"""`python -m backend train --data_dir prepared/demo`: train SeqSetVAE and watch its posterior.

Everything of a run lies in one folder under --output_dir; `python -m dashboard --runs runs` shows it live.
"""

import argparse
from pathlib import Path

from backend.options import add_arguments as add_config_arguments
from backend.options import existing, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command: those of `shared.config`."""
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command: check all options, then train; returns the exit status."""
    config = resolve(args)
    target = config.trainer.resume_from_checkpoint
    if target:
        existing(Path(target), "checkpoint or run folder")
    from backend.resume import open_resume
    from backend.training import train

    if not target:
        return train(config)
    resume = open_resume(Path(target))
    return train(resolve(args, resume.config()), resume)
