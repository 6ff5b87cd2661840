"""Scores of a checkpoint on a split: over its stays, in order, and as the report that `evaluate` writes."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch

from backend.any_probe import evaluating
from backend.batches import StayDataset, fixed_batches
from backend.build import module_from_checkpoint
from backend.checkpoints import load_checkpoint, sha256_of
from backend.datasource import open_data
from backend.lit import SeqSetVAEModule
from backend.ranks import Rank
from backend.store import PreparedDataset
from backend.terminal import counted
from backend.validation import Part
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import SCHEMA_VERSION, RunLayout


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
        for i, rows in enumerate(counted(own, f"{dataset.split} split") if rank.first else own):
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


def report_on(checkpoint: Path, split: str, data_dir: Path | None, batch_size: int) -> dict[str, Any]:
    """What `evaluate` prints and writes.

    Raises:
        InputError: a missing or foreign checkpoint, another data set, an empty split.
    """
    loaded = load_checkpoint(checkpoint, needs=("config", "fingerprint"))
    known = loaded["seqsetvae"]
    data = data_of(build_config(known["config"], where=str(checkpoint)), checkpoint, data_dir)
    module = module_from_checkpoint(checkpoint, data)
    dataset = StayDataset(data, split, module.config.data)
    if not len(dataset):
        raise InputError(f"--split {split}: {data.info.name!r} has no stays there")
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": str(checkpoint),
        "sha256": sha256_of(checkpoint),
        "step": loaded["global_step"],
        "data": data.info.name,
        "fingerprint": data.info.fingerprint,
        "same_data_as_training": data.info.fingerprint == known["fingerprint"],
        "simulated": data.info.simulated,
        "split": split,
        "scores": evaluate_split(module, dataset, batch_size),
    }
