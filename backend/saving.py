"""Checkpoints and graceful stopping, only ever between a finished step and the next."""

from collections.abc import Callable
from typing import Any

import lightning as L

from backend.checkpoints import CheckpointWriter
from backend.lit import SeqSetVAEModule, lr_factor
from backend.on_collapse import OnCollapse
from backend.plan import Plan
from backend.resume import align
from backend.stopping import CollapseStop, NotSavedError, StopRequested, StopSignals, reason
from shared.config import TrainConfig

EvaluateWhole = Callable[[SeqSetVAEModule], dict[str, float | None]]


class Saving(L.Callback):
    """Saves, stops and finishes; comes last, when monitor, log line and progress have done their part of a step.

    A step that a validation follows is saved after it, so that a resumed run has every validation exactly once. While
    `collapsing`, earlier checkpoints are not replaced; `on_collapse` is asked whether one is still to be answered.
    """

    def __init__(
        self,
        writer: CheckpointWriter,
        plan: Plan,
        config: TrainConfig,
        signals: StopSignals,
        evaluate_whole: EvaluateWhole,
        *,
        collapsing: Callable[[], bool] = lambda: False,
        on_collapse: OnCollapse | None = None,
    ) -> None:
        self.writer = writer
        self.plan = plan
        self.config = config
        self.signals = signals
        self.evaluate_whole = evaluate_whole
        self.collapsing = collapsing
        self.on_collapse = on_collapse
        self.finished = False
        self._saved_step = -1
        self._settled_step = -1
        """The last step whose line and validation are written: a checkpoint of it can be resumed."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what a checkpoint needs to be understood and resumed on its own; plain values only."""
        step = trainer.global_step
        checkpoint["seqsetvae"] = {
            "config": self.config.model_dump(mode="json"),
            "fingerprint": self.writer.recorder.info.dataset.fingerprint if self.writer.recorder.info.dataset else "",
            "epoch": self.plan.epoch_at(step),
            "batches": self.plan.batches_at(step),
            "batch_size": self.plan.batch_size,
            "batch_events": self.plan.batch_events,
            "batches_per_epoch": self.plan.batches_per_epoch,
            "settled": step == self._settled_step,
            "steered": pl_module.steered if isinstance(pl_module, SeqSetVAEModule) else {},
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Bring a checkpoint in line with the run that goes on."""
        optim = self.config.optim
        factor = lr_factor(optim, self.plan.total_steps)(checkpoint["global_step"])
        align(checkpoint, self.plan.start_batch, optim.learning_rate, factor)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here a run can be resumed from a checkpoint."""
        self.signals.install()
        self._saved_step = self._settled_step = trainer.global_step
        if trainer.global_step == 0:
            self.writer.save(trainer, "last")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save or stop now, or after the validation that follows this batch."""
        if not validation_follows(trainer, batch_idx):
            self._after_step(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the best; then what the step before had to leave."""
        assert isinstance(pl_module, SeqSetVAEModule)
        self._settled_step = trainer.global_step
        self.writer.save_if_best(trainer, pl_module.validation)
        self._after_step(trainer)

    def _after_step(self, trainer: L.Trainer) -> None:
        if mid_accumulation(trainer):
            return
        step = self._settled_step = trainer.global_step
        if trainer.strategy.reduce_boolean_decision(self.signals.requested is not None, all=False):
            saved = self.writer.save(trainer, "interrupted")
            why = (
                reason(self.signals.requested) if self.signals.requested else "asked to stop through another process of the run"
            )
            raise StopRequested(why) if saved else NotSavedError(f"stopped at step {step:,} ({why}), unsaved")
        self._answer_collapse(trainer)
        if step > self._saved_step and step % self.config.trainer.checkpoint_every_n_steps == 0:
            self._saved_step = step
            if self.writer.save(trainer, "last") and not self.collapsing():
                self.writer.keep_earlier()

    def _answer_collapse(self, trainer: L.Trainer) -> None:
        """All processes know the verdicts; they save and stop together."""
        action = self.config.monitor.on_collapse
        if action not in ("stop", "checkpoint"):
            return
        due = self.on_collapse.settle() if self.on_collapse is not None else None
        if due is None:
            return
        if action == "checkpoint":
            self.writer.save(trainer, "collapse")
        elif self.writer.save(trainer, "interrupted"):
            raise CollapseStop(due)
        else:
            raise NotSavedError(f"stopped at step {trainer.global_step:,} by {due}, unsaved")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The end of the stream."""
        self.finish(trainer, pl_module)

    def finish(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate on the whole split and keep the scores with the final weights.

        A run that was killed in here, and is resumed at its last step, does only what is missing.
        """
        assert isinstance(pl_module, SeqSetVAEModule)
        recorder, step = self.writer.recorder, trainer.global_step
        self._settled_step = step
        recorder.beat.phase = "validating"
        known = [row for row in recorder.evaluations("validation") if row.get("full") and row["step"] == step]
        scores = {k: known[0].get(k) for k in ("auroc", "auprc", "accuracy", "elbo", "loss")} if known else None
        scores = trainer.strategy.broadcast(scores)  # all evaluate, or none
        if scores is None:
            scores = self.evaluate_whole(pl_module)
            recorder.evaluation("validation", step, {**scores, "full": True})
        self.writer.save(trainer, "last")
        if not self.writer.save(trainer, "final", scores):
            raise NotSavedError(f"training came to its end at step {step:,}, but its final checkpoint could not be written")
        shown = ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if value is not None)
        if trainer.is_global_zero:
            print(f"finished {recorder.layout.root} at step {step:,}; whole validation split: {shown}", flush=True)
        self.finished = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Keep the state of a run that failed."""
        if self._settled_step >= 0 and not isinstance(exception, StopRequested | KeyboardInterrupt | NotSavedError):
            self.writer.save(trainer, "error") if trainer.world_size == 1 else self.writer.save_alone(trainer)


def validation_follows(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether Lightning validates after this batch."""
    return trainer.enable_validation and (batch_idx + 1) % int(trainer.val_check_batch or 1) == 0


def mid_accumulation(trainer: L.Trainer) -> bool:
    """Whether gradients of batches already seen wait for the optimizer: a checkpoint would lose them."""
    return trainer.fit_loop.epoch_loop._should_accumulate()
