"""`python -m backend evaluate runs/NAME/checkpoints/final_step-000001000.ckpt --data prepared/demo --split test`.

Prints the scores as JSON and writes them beside the checkpoint.
"""

import argparse
from pathlib import Path

import orjson
import torch
from rich.progress import track

from backend.batches import StayDataset, fixed_batches
from backend.lit import SeqSetVAEModule
from backend.probe import evaluating
from backend.store import PreparedDataset
from shared.dataset import SPLITS
from shared.errors import InputError
from shared.writer import replace_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file of a run")
    parser.add_argument("--data", type=Path, help="prepared data set [the one the run was trained on]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="[valid]")
    parser.add_argument("--batch_size", type=int, default=32, help="stays per batch [32]")
    parser.add_argument("--output", type=Path, help="where the JSON goes [beside the checkpoint]")
    parser.set_defaults(run=run)


def evaluate_split(module: SeqSetVAEModule, dataset: StayDataset, batch_size: int) -> dict[str, float | None]:
    """Scores of every stay of a split; AUROC and AUPRC are None where only one class is known."""
    batches = fixed_batches(dataset.rows, batch_size)
    with evaluating(module):
        torch.manual_seed(0)
        for i, rows in enumerate(track(batches, f"{dataset.split} split", transient=True, disable=len(batches) < 20)):
            module.validation_step(dataset[rows].to(module.device), i)
        module.close_validation()
    return module.validation


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: a missing or foreign checkpoint, another data set, an empty split.
    """
    from backend.build import module_from_checkpoint
    from backend.checkpoints import load_checkpoint, sha256_of

    if args.batch_size < 1:
        raise InputError(f"--batch_size {args.batch_size}: at least 1")
    loaded = load_checkpoint(args.checkpoint)
    known = loaded["seqsetvae"]
    data = PreparedDataset.open(args.data or Path(known["config"]["data"]["data_dir"]))
    module = module_from_checkpoint(args.checkpoint, data)
    dataset = StayDataset(data, args.split, module.config.data)
    if not len(dataset):
        raise InputError(f"--split {args.split}: {data.info.name!r} has no stays there")
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    scores = evaluate_split(module, dataset, args.batch_size)
    report = {
        "checkpoint": str(args.checkpoint),
        "sha256": sha256_of(args.checkpoint),
        "step": loaded["global_step"],
        "data": data.info.name,
        "fingerprint": data.info.fingerprint,
        "same_data_as_training": data.info.fingerprint == known["fingerprint"],
        "simulated": data.info.simulated,
        "split": args.split,
        "scores": scores,
    }
    text = orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"
    target = args.output or args.checkpoint.with_name(f"{args.checkpoint.stem}.{args.split}.eval.json")
    try:
        replace_atomically(target, text)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another --output") from error
    print(text.decode(), end="")
    return 0
