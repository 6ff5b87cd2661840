"""A progress bar with rate and time left; a line now and then where the output is not a terminal."""

import math
import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from backend.lit import SeqSetVAEModule
from backend.recorder import RunRecorder
from backend.terminal import LINE_EVERY_S

FIRST_LINE_S = 3.0
REFRESH_S = 0.25


class Progress(L.Callback):
    """Shows what the heartbeat knows."""

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._shown = 0.0
        self._validation_shown = -math.inf
        self._held = 0
        self._validation = ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar on a terminal."""
        self._shown = time.monotonic() - LINE_EVERY_S + FIRST_LINE_S
        stream = getattr(sys.stderr, "terminal", sys.stderr)
        if stream.isatty():
            self._bar = Bar(
                TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                console=Console(file=stream),
            )  # fmt: skip
            self._task = self._bar.add_task("", total=self.recorder.beat.max_steps, completed=trainer.global_step)
            self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Refresh, not at every step."""
        since = time.monotonic() - self._shown if self.recorder.beat.eta_s is not None else 0.0
        if self._bar is not None and since > REFRESH_S:
            self._bar.update(self._task, completed=self.recorder.beat.step, description=self._text())
        elif self._bar is None and since > LINE_EVERY_S:
            beat = self.recorder.beat
            self._say_validation()
            print(f"step {beat.step:,} of {beat.max_steps or 0:,}, {self._text()}", flush=True)
        else:
            return
        self._shown = time.monotonic()

    def _text(self) -> str:
        beat = self.recorder.beat
        left = f", {timedelta(seconds=round(beat.eta_s))} left" if beat.eta_s is not None else ""
        return f"epoch {beat.epoch:.2f}, {beat.stays_per_s or 0:.1f} stays/s{left}"

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say the scores."""
        if trainer.state.fn != "fit" or not isinstance(pl_module, SeqSetVAEModule):
            return
        scores = {k: v for k, v in pl_module.validation.items() if k in ("auroc", "auprc", "elbo", "loss")}
        scores = {k: v for k, v in scores.items() if v is not None or k.startswith("au")}
        shown = "  ".join(f"{k} {v:.4f}" if v is not None else f"{k} undefined (one class)" for k, v in scores.items())
        self._held += 1
        self._validation = f"step {trainer.global_step:,} validation: {shown}"
        if time.monotonic() - self._validation_shown > LINE_EVERY_S:
            self._say_validation()

    def _say_validation(self) -> None:
        """The newest one, if it was not said yet, and how many there were since: a small data set is validated every few steps."""
        if not self._held:
            return
        line = self._validation + (f"  (and {self._held - 1} before it)" if self._held > 1 else "")
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, flush=True)
        self._held = 0
        self._validation_shown = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar before anything else is printed."""
        self._close()

    def _close(self) -> None:
        self._say_validation()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.recorder.beat.step, description=self._text())
            self._bar.stop()
            self._bar = None
