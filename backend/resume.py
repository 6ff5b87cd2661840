"""Going on where a run stopped: which run, which checkpoint, which batch, and what has to be brought in line first."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.checkpoints import load_checkpoint
from backend.earlier import of_earlier
from backend.options import existing
from backend.ownership import refuse_imported, refuse_running
from backend.plan import Position
from shared.config import FIXED_ON_RESUME, TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import SNAPSHOT_KINDS, RunLayout
from shared.reader import read_record
from shared.schema import RunInfo
from shared.writer import warn_on_stderr

NEEDED = ("batches", "batch_size", "settled")
"""What a checkpoint has to say besides its weights to be gone on with."""


@dataclass(frozen=True)
class Resume:
    """A run to go on with; `checkpoint` is None when it was killed before its first, and starts over in the same folder."""

    layout: RunLayout
    info: RunInfo
    path: Path | None
    checkpoint: dict[str, Any] | None

    @property
    def position(self) -> Position:
        """Where in the stream of batches the checkpoint stands."""
        if self.checkpoint is None:
            return Position()
        kept = self.checkpoint["seqsetvae"]
        cut = kept.get("batch_events"), kept.get("batches_per_epoch")  # checkpoints from before they were have fixed stays
        return Position(self.checkpoint["global_step"], kept["batches"], kept["batch_size"], *cut)

    def config(self) -> TrainConfig:
        """The run's own configuration."""
        return build_config(of_earlier(self.info.config), where=str(self.layout.run_json))

    def check(self, config: TrainConfig, fingerprint: str) -> None:
        """Refuse other data, and options that the checkpoint cannot follow.

        Raises:
            InputError: names the option.
        """
        name = self.layout.root.name
        if (self.info.dataset.fingerprint if self.info.dataset else None) != fingerprint:
            raise InputError(
                f"data.data_dir: {config.data.data_dir} is not the data that {name} was trained on "
                "(its fingerprint differs); point --data_dir at that, or start a new run with --init_from"
            )
        before, after = (c.model_dump() for c in (self.config(), config))
        fixed = [*(f"model.{option}" for option in before["model"]), *FIXED_ON_RESUME]
        for group, option in (key.split(".") for key in fixed):
            old, new = before[group][option], after[group][option]
            if old != new:
                raise InputError(
                    f"{group}.{option}: {name} was trained with {old!r}, and a resumed run cannot change it to {new!r}; "
                    "start a new run with --init_from"
                )


def open_resume(target: Path) -> Resume:
    """Find and load what `--resume_from_checkpoint` names: a .ckpt file or a run folder.

    For a folder it is the furthest checkpoint.

    Raises:
        InputError: not a run or checkpoint, damaged, or still running; the message names the file.
    """
    existing(target, "checkpoint or run folder")
    layout = RunLayout(target if target.is_dir() else target.absolute().parent.parent)
    if not layout.run_json.exists():
        raise InputError(
            f"{target}: not in a run folder (no {layout.run_json.name} in {layout.root}); "
            "to start a new run from its weights use --init_from"
        )
    info = read_record(layout.run_json, RunInfo)
    refuse_imported(layout, info)
    refuse_running(layout)
    path = furthest(layout) if target.is_dir() else target
    checkpoint = None if path is None else load_checkpoint(path, needs=NEEDED)
    if checkpoint is not None and not checkpoint["seqsetvae"]["settled"]:
        raise InputError(f"{path}: was saved in the middle of a step; resume the run folder {layout.root} instead")
    return Resume(layout, info, path, checkpoint)


def furthest(layout: RunLayout) -> Path | None:
    """The checkpoint with the most steps that was saved between two steps; None when there is none yet."""
    found: list[tuple[int, bool, Path]] = []
    for path in sorted(layout.checkpoints.glob("*.ckpt")):
        try:
            loaded = load_checkpoint(path, mapped=True, needs=NEEDED)
        except InputError as error:
            warn_on_stderr(f"{error}; it is left out")
            continue
        if loaded["seqsetvae"]["settled"]:
            found.append((loaded["global_step"], path.name == "last.ckpt", path))
    return max(found)[2] if found else None


def clear_after(layout: RunLayout, step: int) -> None:
    """Put away what belongs to steps that will be made again: snapshots and later checkpoints move to `discarded`.

    Left there, a later checkpoint would be taken for the run's newest state although its log has been cut.
    """
    for kind in SNAPSHOT_KINDS:
        for made, path in layout.snapshots(kind):
            if made > step:
                (layout.discarded / kind).mkdir(parents=True, exist_ok=True)
                path.replace(layout.discarded / kind / path.name)
    for leftover in (*layout.root.glob(".*.tmp"), *layout.checkpoints.glob("*.tmp"), *layout.root.glob("*/*.tmp")):
        leftover.unlink(missing_ok=True)
    for path in sorted(layout.checkpoints.glob("*.ckpt")):
        try:
            late = load_checkpoint(path, mapped=True)["global_step"] > step
        except InputError:
            continue
        if late:
            folder = layout.checkpoints / "discarded"
            folder.mkdir(exist_ok=True)
            for file in (path, path.with_suffix(".json")):
                if file.exists():
                    shutil.move(file, folder / file.name)
    for sidecar in layout.checkpoints.glob("*.json"):
        if not sidecar.name.endswith(".eval.json") and not sidecar.with_suffix(".ckpt").exists():
            sidecar.unlink()


def align(checkpoint: dict[str, Any], batches: int, learning_rate: float, factor: float) -> None:
    """Put a checkpoint into the one state our loop resumes from: `batches` batches done, the next one not begun.

    Lightning's counters depend on the hook in which a checkpoint was saved, on the batch size and on the planned length;
    setting them here makes every kind of checkpoint, and a changed batch size or learning rate, resume alike. `factor` is
    the share of the peak learning rate that the schedule gives the next step.
    """
    fit = checkpoint["loops"]["fit_loop"]
    fit["epoch_progress"] = _progress(fit["epoch_progress"], ready=1, started=1, processed=0, completed=0)
    done = _progress(fit["epoch_loop.batch_progress"], batches, batches, batches, batches)
    fit["epoch_loop.batch_progress"] = {**done, "is_last_batch": False}
    validation = _progress(fit["epoch_loop.val_loop.batch_progress"], 0, 0, 0, 0)
    fit["epoch_loop.val_loop.batch_progress"] = {**validation, "is_last_batch": False}
    steps = fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    steps["current"] = dict(steps["total"])
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group["initial_lr"] = learning_rate
        group["lr"] = learning_rate * factor
    scheduler = checkpoint["lr_schedulers"][0]
    scheduler["base_lrs"] = [learning_rate] * len(scheduler["base_lrs"])
    scheduler["_last_lr"] = [learning_rate * factor] * len(scheduler["base_lrs"])


def _progress(old: dict[str, Any], ready: int, started: int, processed: int, completed: int) -> dict[str, Any]:
    counts = {"ready": ready, "started": started, "processed": processed, "completed": completed}
    return {
        **old,
        **{part: {**old[part], **{k: v for k, v in counts.items() if k in old[part]}} for part in ("total", "current")},
    }
