"""Going on where a run stopped: which run, which batch, and what of a checkpoint has to be brought in line first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.checkpoints import find_resume, load_checkpoint
from shared.config import TrainConfig, build_config
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunInfo


@dataclass(frozen=True)
class Resume:
    """A run to go on with; `checkpoint` is None when it was killed before its first, and starts over in the same folder."""

    layout: RunLayout
    info: RunInfo
    path: Path | None
    checkpoint: dict[str, Any] | None

    @property
    def step(self) -> int:
        """Optimizer steps already done."""
        return self.checkpoint["global_step"] if self.checkpoint else 0

    @property
    def epoch(self) -> float:
        """Passes over the training split already done."""
        return self.checkpoint["seqsetvae"]["epoch"] if self.checkpoint else 0.0

    def config(self) -> TrainConfig:
        """The run's own configuration."""
        return build_config(self.info.config, where=str(self.layout.run_json))


def open_resume(target: Path) -> Resume:
    """Find and load what `--resume_from_checkpoint` names.

    Raises:
        InputError: not a run or checkpoint, or damaged; the message names the file.
    """
    layout, path = find_resume(target)
    info = read_record(layout.run_json, RunInfo)
    return Resume(layout, info, path, None if path is None else load_checkpoint(path))


def align(checkpoint: dict[str, Any], batches: int, config: TrainConfig) -> None:
    """Put a checkpoint into the one state our loop resumes from: `batches` batches done, the next one not begun.

    Lightning's counters depend on the hook in which a checkpoint was saved, on the batch size and on the planned length;
    setting them here makes every kind of checkpoint, and a changed batch size or learning rate, resume alike.
    """
    fit = checkpoint["loops"]["fit_loop"]
    fit["epoch_progress"] = _progress(fit["epoch_progress"], ready=1, started=1, processed=0, completed=0)
    done = _progress(fit["epoch_loop.batch_progress"], batches, batches, batches, batches)
    fit["epoch_loop.batch_progress"] = {**done, "is_last_batch": False}
    steps = fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    steps["current"] = dict(steps["total"])
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group["initial_lr"] = config.optim.learning_rate
        group["lr"] = config.optim.learning_rate
    scheduler = checkpoint["lr_schedulers"][0]
    scheduler["base_lrs"] = [config.optim.learning_rate] * len(scheduler["base_lrs"])


def _progress(old: dict[str, Any], ready: int, started: int, processed: int, completed: int) -> dict[str, Any]:
    counts = {"ready": ready, "started": started, "processed": processed, "completed": completed}
    return {
        **old,
        **{part: {**old[part], **{k: v for k, v in counts.items() if k in old[part]}} for part in ("total", "current")},
    }
