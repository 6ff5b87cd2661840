"""`python -m backend evaluate runs/NAME/checkpoints/final_step-000001000.ckpt --data prepared/demo --split test`.

Prints the scores as JSON and writes them beside the checkpoint.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import orjson
import torch
from rich.progress import track

from backend.any_probe import evaluating
from backend.batches import StayDataset, fixed_batches
from backend.datasource import open_data
from backend.lit import SeqSetVAEModule
from backend.ranks import Rank
from backend.store import PreparedDataset
from backend.validation import Part
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.dataset import SPLITS
from shared.errors import InputError
from shared.layout import SCHEMA_VERSION, RunLayout
from shared.writer import replace_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file of a run")
    parser.add_argument("--data", type=Path, help="prepared data set, or the older layout [what the run was trained on]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="[valid]")
    parser.add_argument("--batch_size", type=int, default=32, help="stays per batch [32]")
    parser.add_argument("--output", type=Path, help="where the JSON goes [beside the checkpoint]")
    parser.set_defaults(run=run)


def evaluate_split(
    module: SeqSetVAEModule, dataset: StayDataset, batch_size: int, rank: Rank | None = None
) -> dict[str, float | None]:
    """Scores of every stay of a split; AUROC and AUPRC are None where only one class is known.

    Several processes share the batches: all have to call this, and all have the scores.
    """
    batches = fixed_batches(dataset.rows, batch_size)
    rank = rank or Rank()
    module.part = Part(rank.number, rank.world, len(batches))
    own = module.part.of(batches)
    with evaluating(module):
        for i, rows in enumerate(track(own, f"{dataset.split} split", transient=True, disable=len(own) < 20 or not rank.first)):
            module.part.draw(0, i)
            module.validation_step(dataset[rows].to(module.device), i)
        module.close_validation()
    return module.validation


def data_of(config: TrainConfig, checkpoint: Path, data: Path | None) -> PreparedDataset:
    """The data set at `data`, or of the training run, in either layout. Whatever preparing it says goes to stderr."""
    if data is not None:
        config = build_config({"data_dir": str(data), "params_map_path": None, "label_path": None}, base=config)
    run_folder = checkpoint.absolute().parent.parent
    if RunLayout(run_folder).run_json.exists():
        config = build_config({"output_dir": str(run_folder.parent)}, base=config)
    with contextlib.redirect_stdout(sys.stderr):
        return open_data(config, needed=())


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: a missing or foreign checkpoint, another data set, an empty split.
    """
    from backend.build import module_from_checkpoint
    from backend.checkpoints import load_checkpoint, sha256_of

    if args.batch_size < 1:
        raise InputError(f"--batch_size {args.batch_size}: at least 1")
    loaded = load_checkpoint(args.checkpoint, needs=("config", "fingerprint"))
    known = loaded["seqsetvae"]
    data = data_of(build_config(known["config"], where=str(args.checkpoint)), args.checkpoint, args.data)
    module = module_from_checkpoint(args.checkpoint, data)
    dataset = StayDataset(data, args.split, module.config.data)
    if not len(dataset):
        raise InputError(f"--split {args.split}: {data.info.name!r} has no stays there")
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    scores = evaluate_split(module, dataset, args.batch_size)
    report = {
        "schema_version": SCHEMA_VERSION,
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
