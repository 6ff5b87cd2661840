"""What happens around a training step of our own runs: the log line, the heartbeat, validation, checkpoints, stopping."""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch

from backend.batches import Batch
from backend.checkpoints import CheckpointWriter
from backend.lit import STEP_SCALARS, SeqSetVAEModule
from backend.loss import beta_at
from backend.recorder import RunRecorder

EvaluateWhole = Callable[[SeqSetVAEModule], dict[str, float | None]]


class StopRequested(Exception):  # noqa: N818
    """Ctrl-C or SIGTERM, raised between two steps after the state has been saved."""


class StepSeed(L.Callback):
    """Noise of batch i is a function of (seed, i) alone, so that a resumed run draws what the undisturbed one drew."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed from the position in the stream and the rank."""
        state = np.random.SeedSequence([self.seed, trainer.global_rank, batch_idx]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same draws at every validation."""
        torch.manual_seed(self.seed)


class StepLog(L.Callback):
    """One line per optimizer step, over all its accumulated batches; comes after the posterior monitor, whose values it commits."""

    def __init__(self, recorder: RunRecorder, batches_per_epoch: int) -> None:
        self.recorder = recorder
        self.batches_per_epoch = batches_per_epoch
        self._parts: list[torch.Tensor] = []
        self._stays = self._sets = 0
        self._started = self._rate_at = 0.0
        self._rate: float | None = None
        self._paused = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock starts."""
        self._started = self._rate_at = time.perf_counter()
        self.recorder.beat.phase = "training"

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Gather the batch; when the optimizer has stepped, write the step's line."""
        self._parts.append(outputs["parts"])
        self._stays += batch.stays
        self._sets += batch.sets
        if trainer.global_step > self.recorder.beat.step:
            self._commit(trainer, pl_module, batch_idx + 1)

    def _commit(self, trainer: L.Trainer, module: L.LightningModule, batches: int) -> None:
        assert isinstance(module, SeqSetVAEModule)
        step, now = trainer.global_step, time.perf_counter()
        taken = now - self._started
        put = self.recorder.put
        put("epoch", round(batches / self.batches_per_epoch, 6))
        self.recorder.put_all(STEP_SCALARS, torch.stack(self._parts).mean(dim=0))
        put("beta", beta_at(step - 1, module.config.loss))
        put("lr", trainer.optimizers[0].param_groups[0]["lr"])
        put("grad_norm", module.grad_norm)
        put("step_s", taken)
        put("stays", self._stays * trainer.world_size)
        self.recorder.commit(step)
        self._beat(step, batches, taken)
        self._parts, self._stays, self._sets, self._started = [], 0, 0, now

    def _beat(self, step: int, batches: int, taken: float) -> None:
        beat = self.recorder.beat
        pace = 1 / max(taken, 1e-9)
        beat.steps_per_s = pace if beat.steps_per_s is None else 0.95 * beat.steps_per_s + 0.05 * pace
        beat.stays_per_s = beat.steps_per_s * self._stays
        beat.epoch = batches / self.batches_per_epoch
        if beat.max_steps:
            beat.eta_s = (beat.max_steps - step) / beat.steps_per_s

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation is not step time."""
        self.recorder.beat.phase = "validating"

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation; restart the clock of the step."""
        assert isinstance(pl_module, SeqSetVAEModule)
        self.recorder.flush()
        self.recorder.evaluation("validation", trainer.global_step, pl_module.validation)
        self._started = time.perf_counter()
        self.recorder.beat.phase = "training"


class Saving(L.Callback):
    """Checkpoints and graceful stopping, only ever between a finished step and the next.

    A step that a validation follows is saved after it, so that a resumed run has every validation exactly once.
    """

    def __init__(self, writer: CheckpointWriter, every_n_steps: int, evaluate_whole: EvaluateWhole) -> None:
        self.writer = writer
        self.evaluate_whole = evaluate_whole
        self.every_n_steps = every_n_steps
        self.stop_signal: signal.Signals | None = None
        self._saved_step = -1
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here Ctrl-C and SIGTERM finish the step first; a second one stops at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._request)
        self._saved_step = trainer.global_step
        if trainer.global_step == 0:
            self.writer.save(trainer, "last")

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is not None:
            self._restore()
            raise KeyboardInterrupt
        self.stop_signal = signal.Signals(number)
        print(f"\n{self.stop_signal.name}: finishing this step and saving; once more to stop at once.", flush=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save or stop now, or after the validation that follows this batch."""
        if not validation_follows(trainer, batch_idx):
            self._after_step(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the best; then what the step before had to leave."""
        assert isinstance(pl_module, SeqSetVAEModule)
        if trainer.state.fn == "fit":
            self.writer.save_if_best(trainer, pl_module.validation)
            self._after_step(trainer)

    def _after_step(self, trainer: L.Trainer) -> None:
        step = trainer.global_step
        if self.stop_signal is not None and not mid_accumulation(trainer):
            self.writer.save(trainer, "interrupted")
            raise StopRequested(self.stop_signal.name)
        if step > self._saved_step and step % self.every_n_steps == 0:
            self._saved_step = step
            self.writer.save(trainer, "last")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The end of the stream: validate on the whole split and keep the result with the final weights."""
        assert isinstance(pl_module, SeqSetVAEModule)
        recorder, step = self.writer.recorder, trainer.global_step
        recorder.beat.phase = "validating"
        scores = self.evaluate_whole(pl_module)
        recorder.evaluation("validation", step, {**scores, "full": True})
        self.writer.save(trainer, "last")
        self.writer.save(trainer, "final", scores)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if value is not None)
        print(f"finished {recorder.layout.root} at step {step:,}; whole validation split: {shown}", flush=True)
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Keep the state of a run that failed; a second Ctrl-C asked not to wait."""
        self._restore()
        if not isinstance(exception, StopRequested | KeyboardInterrupt):
            self.writer.save(trainer, "error")

    def _restore(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)


def validation_follows(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether Lightning validates after this batch."""
    return trainer.enable_validation and (batch_idx + 1) % int(trainer.val_check_batch or 1) == 0


def mid_accumulation(trainer: L.Trainer) -> bool:
    """Whether gradients of batches already seen wait for the optimizer: a checkpoint would lose them."""
    return trainer.fit_loop.epoch_loop._should_accumulate()
