"""`python -m backend visualize runs/NAME/checkpoints/FILE.ckpt`: what a checkpoint makes of stays, as pictures and for the pages.

Evaluates it on a sample of a split and writes posterior_collapse_analysis.png, latent_space_umap.png,
reconstruction_errors.png and latent_correlation.png. Its snapshots go to the run's analysis folder: the Latent space and
Reconstruction pages then show the checkpoint beside those of training.
"""

import argparse
from pathlib import Path

from backend.options import existing
from shared.dataset import SPLITS
from shared.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file of a run")
    parser.add_argument("--data_dir", type=Path, help="the prepared data set, where it has moved [what the run was trained on]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="[valid]")
    parser.add_argument("--max_batches", type=int, default=20, help="batches of stays to look at, at most [20]")
    parser.add_argument("--batch_size", type=int, default=32, help="stays per batch [32]")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the pictures go [plots/CHECKPOINT in the run; here for a loose file]"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: no checkpoint of this program, other data than it was trained on, an empty split, a full disk.
    """
    for name in ("max_batches", "batch_size"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: at least 1")
    existing(args.checkpoint, "checkpoint")
    from backend.visualize_checkpoint import visualize

    return visualize(args)
