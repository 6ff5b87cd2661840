"""Checkpoints: written whole or not at all, each with a readable sidecar, and found again for a resume."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from backend.recorder import RunRecorder
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import CheckpointSidecar
from shared.writer import warn_on_stderr, write_record

Kind = Literal["last", "best", "final", "interrupted", "error"]
KEPT_BEST = 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file, syncs it to the disk, then renames: a kill leaves the old checkpoint or the new."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replace `path` with the checkpoint."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".ckpt.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CheckpointWriter:
    """Saves the five kinds of checkpoint of one run, each with its sidecar and an event."""

    def __init__(self, recorder: RunRecorder, epoch: Callable[[int], float]) -> None:
        self.recorder = recorder
        self.folder = recorder.layout.checkpoints
        self._epoch = epoch
        self._warned = False

    def save(self, trainer: L.Trainer, kind: Kind, metrics: dict[str, float | None] | None = None) -> None:
        """Write one checkpoint of `kind`; a full disk warns once per spell and training goes on."""
        step = trainer.global_step
        score = "" if kind != "best" else f"_{score_name(metrics or {})}"
        name = "last" if kind == "last" else f"{kind}_step-{step:09d}{score}"
        path = self.folder / f"{name}.ckpt"
        phase, self.recorder.beat.phase = self.recorder.beat.phase, "saving"
        try:
            trainer.save_checkpoint(path)
            if trainer.is_global_zero:
                self._describe(path, kind, step, metrics or {})
            self._warned = False
        except OSError as error:
            if not self._warned:
                warn_on_stderr(f"checkpoint {path} not written: {error.strerror or error}. Training goes on; free the disk.")
            self._warned = True
        finally:
            self.recorder.beat.phase = phase

    def _describe(self, path: Path, kind: Kind, step: int, metrics: dict[str, float | None]) -> None:
        sidecar = CheckpointSidecar(
            kind=kind, file=path.name, step=step, epoch=self._epoch(step), metrics=metrics,
            config=self.recorder.info.config, bytes=path.stat().st_size, sha256=sha256_of(path),
        )  # fmt: skip
        write_record(path.with_suffix(".json"), sidecar, durable=True)
        if kind != "last":
            self.recorder.event("checkpoint", step, f"{kind} checkpoint {path.name}", file=path.name, kind=kind)

    def save_if_best(self, trainer: L.Trainer, metrics: dict[str, float | None]) -> None:
        """Keep the two best by validation AUROC; by the bound where there is no AUROC."""
        rank = score_of(metrics)
        kept = sorted(((score_of(s.metrics), p) for p, s in read_sidecars(self.folder) if s.kind == "best"), reverse=True)
        if len(kept) >= KEPT_BEST and rank <= kept[KEPT_BEST - 1][0]:
            return
        self.save(trainer, "best", metrics)
        for _, path in kept[KEPT_BEST - 1 :]:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def score_of(metrics: dict[str, float | None]) -> tuple[int, float]:
    """Sort key of a validation: any AUROC beats none, then AUROC, then the bound."""
    auroc, elbo = metrics.get("auroc"), metrics.get("elbo")
    return (1, auroc) if auroc is not None else (0, elbo if elbo is not None else -float("inf"))


def score_name(metrics: dict[str, float | None]) -> str:
    """The score in a file name."""
    known, score = score_of(metrics)
    return f"auroc-{score:.4f}" if known else f"elbo{score:+.3f}"


def read_sidecars(folder: Path) -> list[tuple[Path, CheckpointSidecar]]:
    """Checkpoints of a run with their sidecars, in name order; a checkpoint without a readable one is left out."""
    found = []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            found.append((path, read_record(path.with_suffix(".json"), CheckpointSidecar)))
        except InputError as error:
            warn_on_stderr(f"{path.name}: {error}; it is not considered")
    return found


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU, without unpickling anything but tensors and plain values.

    Raises:
        InputError: missing, cut off, not a checkpoint of this program.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error})") from error
    except torch.serialization.pickle.UnpicklingError as error:
        raise InputError(f"{path}: holds more than tensors and plain values; not loaded, it could run code") from error
    if not isinstance(loaded, dict) or "seqsetvae" not in loaded:
        raise InputError(f"{path}: not a SeqSetVAE checkpoint")
    return loaded


def find_resume(target: Path) -> tuple[RunLayout, Path | None]:
    """The run and the checkpoint that `--resume_from_checkpoint` names: a .ckpt file or a run folder.

    For a folder it is the furthest checkpoint; None when the run was killed before its first.

    Raises:
        InputError: neither a run folder nor a checkpoint inside one.
    """
    if target.is_dir():
        layout = RunLayout(target)
        paths = sorted(layout.checkpoints.glob("*.ckpt"), key=_resume_order)
        chosen = paths[-1] if paths else None
    else:
        layout, chosen = RunLayout(target.absolute().parent.parent), target
        if not target.is_file():
            raise InputError(f"{target}: no such checkpoint or run folder")
    if not layout.run_json.exists():
        raise InputError(
            f"{target}: not in a run folder (no {layout.run_json.name} in {layout.root}); "
            "to start a new run from its weights use --init_from"
        )
    return layout, chosen


def _resume_order(path: Path) -> tuple[int, bool]:
    step = load_checkpoint(path)["global_step"]
    return step, path.name == "last.ckpt"
