"""Checkpoints: written whole or not at all, each with a readable sidecar."""

import errno
import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from backend.earlier import of_earlier
from backend.recorder import RunRecorder
from backend.shards import is_sharded
from shared.errors import InputError
from shared.reader import read_record
from shared.schema import CheckpointSidecar
from shared.writer import warn_on_stderr, write_record

Kind = Literal["last", "best", "final", "interrupted", "error", "collapse"]
KEPT_BEST = 2
KEPT_EARLIER = 3


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file, syncs it to the disk, then renames: a kill leaves the old checkpoint or the new.

    `storage_options` is a function that describes the finished temporary file, called just before it gets its name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replace `path` with the checkpoint. Raises OSError when the disk is full."""
        target = Path(path)
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_suffix(".ckpt.tmp")
        try:
            self._write(checkpoint, temporary)
            if storage_options is not None:
                storage_options(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _write(self, checkpoint: dict[str, Any], path: Path) -> None:
        with path.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides the disk's own error behind this one
                cause = error.__context__
                raise (cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error).splitlines()[0])) from error
            file.flush()
            os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CheckpointWriter:
    """Saves the checkpoints of one run, each with its sidecar and an event."""

    def __init__(self, recorder: RunRecorder, epoch: Callable[[int], float]) -> None:
        self.recorder = recorder
        self.folder = recorder.layout.checkpoints
        self._epoch = epoch

    def save(self, trainer: L.Trainer, kind: Kind, metrics: dict[str, float | None] | None = None) -> bool:
        """Write one checkpoint of `kind`; whether it could be. A full disk warns every time, and training goes on."""
        started = time.perf_counter()
        self.recorder.flush()
        step = trainer.global_step
        score = "" if kind != "best" else f"_{score_name(metrics or {})}"
        path = self.folder / ("last.ckpt" if kind == "last" else f"{kind}_step-{step:09d}{score}.ckpt")
        phase, self.recorder.beat.phase = self.recorder.beat.phase, "saving"
        saved = True
        try:
            trainer.save_checkpoint(path, storage_options=partial(self._describe, path, kind, step, metrics or {}))
            if kind != "last":
                self.recorder.event("checkpoint", step, f"{kind} checkpoint {path.name}", file=path.name, kind=kind)
        except OSError as error:
            saved = False
            trainer.strategy.barrier()  # the other devices wait for the end of the writing
            self.recorder.warn(f"checkpoint {path} not written: {error.strerror or error}; free the disk or restore the folder")
        finally:
            self.recorder.beat.phase = phase
            self.recorder.paused_s += time.perf_counter() - started
        return bool(trainer.strategy.broadcast(saved))

    def _describe(self, path: Path, kind: Kind, step: int, metrics: dict[str, float | None], written: Path) -> None:
        """The sidecar comes first: a checkpoint is never without one."""
        sidecar = CheckpointSidecar(
            kind=kind, file=path.name, step=step, epoch=self._epoch(step), metrics=metrics,
            config=self.recorder.info.config, bytes=written.stat().st_size, sha256=sha256_of(written),
        )  # fmt: skip
        write_record(path.with_suffix(".json"), sidecar, durable=True)

    def save_alone(self, trainer: L.Trainer) -> None:
        """Write an error checkpoint of the first process, when others may be gone: nothing waits for them.

        With FSDP there is none: each of the others has a part of the weights.
        """
        if not self.recorder.writes or is_sharded(trainer.lightning_module):
            return
        path = self.folder / f"error_step-{trainer.global_step:09d}.ckpt"
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        try:
            trainer.strategy.save_checkpoint(
                checkpoint, path, storage_options=partial(self._describe, path, "error", trainer.global_step, {})
            )
            self.recorder.event(
                "checkpoint", trainer.global_step, f"error checkpoint {path.name}", file=path.name, kind="error"
            )
        except OSError as error:
            self.recorder.warn(f"checkpoint {path} not written: {error.strerror or error}")

    def keep_earlier(self) -> None:
        """Give last.ckpt a second name, under which it stays when the next takes its place; the newest three of these are kept.

        What a remedy goes back to: nothing calls this while a collapse is in sight. Costs no space of its own until then.
        """
        last = self.folder / "last.ckpt"
        if not self.recorder.writes:
            return
        try:
            sidecar = read_record(last.with_suffix(".json"), CheckpointSidecar)
            path = self.folder / f"earlier_step-{sidecar.step:09d}.ckpt"
            if path.exists():
                return
            described = sidecar.model_copy(update={"kind": "earlier", "file": path.name})
            write_record(path.with_suffix(".json"), described, durable=True)
            second_name(last, path)
            for old in sorted(self.folder.glob("earlier_*.ckpt"))[:-KEPT_EARLIER]:
                old.unlink(missing_ok=True)
                old.with_suffix(".json").unlink(missing_ok=True)
        except (OSError, InputError) as error:
            self.recorder.warn(f"an earlier checkpoint could not be kept: {error}", "earlier checkpoints")

    def save_if_best(self, trainer: L.Trainer, metrics: dict[str, float | None]) -> None:
        """Keep the two best by validation AUROC; by the bound where there is no AUROC."""
        rank = score_of(metrics)
        sidecars = read_sidecars(self.folder) if self.recorder.writes else []
        kept = sorted(((score_of(s.metrics), p) for p, s in sidecars if s.kind == "best"), reverse=True)
        worth = len(kept) < KEPT_BEST or rank > kept[KEPT_BEST - 1][0]
        if not trainer.strategy.broadcast(worth):
            return
        self.save(trainer, "best", metrics)
        for _, path in kept[KEPT_BEST - 1 :]:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def second_name(path: Path, name: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(path, name)
    except OSError:
        temporary = name.with_suffix(".ckpt.tmp")
        try:
            shutil.copyfile(path, temporary)
            temporary.replace(name)
        finally:
            temporary.unlink(missing_ok=True)


def score_of(metrics: dict[str, float | None]) -> tuple[int, float]:
    """Sort key of a validation: any AUROC beats none, then AUROC, then the bound.

    Where there is no bound either, the negative sum of reconstruction and KL stands for it, or the prediction loss.
    """
    auroc, elbo = metrics.get("auroc"), metrics.get("elbo")
    if auroc is not None:
        return 1, auroc
    if elbo is not None:
        return 0, elbo
    recon, kl, prediction = (metrics.get(name) for name in ("recon", "kl", "prediction"))
    if recon is not None:
        return 0, -(recon + (kl or 0.0))
    return 0, -prediction if prediction is not None else -float("inf")


def score_name(metrics: dict[str, float | None]) -> str:
    """The score in a file name."""
    known, score = score_of(metrics)
    bound = "elbo" if metrics.get("elbo") is not None else "score"
    return f"auroc-{score:.4f}" if known else f"{bound}{score:+.3f}"


def read_sidecars(folder: Path) -> list[tuple[Path, CheckpointSidecar]]:
    """Checkpoints of a run with their sidecars, in name order; a checkpoint without a readable one is left out."""
    found = []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            found.append((path, read_record(path.with_suffix(".json"), CheckpointSidecar)))
        except InputError as error:
            warn_on_stderr(f"{path.name}: {error}; it is not considered")
    return found


def repair_sidecars(folder: Path) -> None:
    """Describe again each checkpoint that its sidecar does not: a kill between the two leaves the older file with the newer."""
    for path, sidecar in read_sidecars(folder):
        size = path.stat().st_size
        if sidecar.bytes == size and sidecar.sha256 == sha256_of(path):
            continue
        try:
            loaded = load_checkpoint(path, mapped=True, needs=("config", "epoch"))
        except InputError:
            continue
        step, kept = loaded["global_step"], loaded["seqsetvae"]
        repaired = CheckpointSidecar(
            kind=sidecar.kind, file=path.name, step=step, epoch=kept["epoch"], config=kept["config"], bytes=size,
            metrics=sidecar.metrics if sidecar.step == step else {}, sha256=sha256_of(path),
        )  # fmt: skip
        write_record(path.with_suffix(".json"), repaired, durable=True)


def load_checkpoint(path: Path, *, mapped: bool = False, needs: Iterable[str] = ()) -> dict[str, Any]:
    """A checkpoint on the CPU, without unpickling anything but tensors and plain values.

    With `mapped` tensors stay in the file until they are touched: enough to look at the counters. `needs` names what
    its "seqsetvae" has to hold.

    Raises:
        InputError: missing, cut off, not a checkpoint of this program, or of an earlier version without what is needed.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder; name a checkpoint in it, such as {path / 'checkpoints' / 'last.ckpt'}") from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not a checkpoint, or one that holds code, which is not loaded") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(loaded, dict) or not {"seqsetvae", "global_step", "state_dict"} <= loaded.keys():
        raise InputError(f"{path}: not a SeqSetVAE checkpoint")
    if isinstance(loaded["seqsetvae"].get("config"), dict):
        loaded["seqsetvae"]["config"] = of_earlier(loaded["seqsetvae"]["config"])
    missing = sorted(set(needs) - loaded["seqsetvae"].keys())
    if missing:
        raise InputError(
            f"{path}: an earlier version wrote it, without {', '.join(missing)}; its weights may start a new run (--init_from)"
        )
    return loaded
