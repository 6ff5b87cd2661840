"""What happens around a training step of our own runs: the noise, the log line, the heartbeat, early stopping."""

import time
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.optim import Optimizer

from backend.batches import Batch
from backend.lit import STEP_SCALARS, SeqSetVAEModule
from backend.recorder import RunRecorder
from backend.waiting import waited


class StepSeed(L.Callback):
    """Noise of batch i is a function of (seed, i) alone, so that a resumed run draws what the undisturbed one drew."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed from the position in the stream, on all ranks alike: of one whole batch's noise each takes its rows."""
        state = np.random.SeedSequence([self.seed, 0, batch_idx]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The same draws at every validation."""
        assert isinstance(pl_module, SeqSetVAEModule)
        pl_module.part.draw(self.seed, batch_idx)


class StepLog(L.Callback):
    """One line per optimizer step, over all its batches; comes after the posterior monitor, whose values it commits."""

    def __init__(self, recorder: RunRecorder, batches_per_epoch: int) -> None:
        self.recorder = recorder
        self.batches_per_epoch = batches_per_epoch
        self._parts: list[torch.Tensor] = []
        self._shares: list[tuple[float, float]] = []
        self._stays = self._steps = 0
        self._started = self._began = 0.0
        self._lr = 0.0
        self._beta: float | None = None
        self._waited: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock starts."""
        self._started = self._began = time.perf_counter()
        self._waited = waited(trainer)
        self.recorder.paused_s = 0.0
        self.recorder.beat.phase = "training"

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Keep the learning rate and beta that this step uses; both move on before the step's line is written."""
        assert isinstance(pl_module, SeqSetVAEModule)
        self._lr = optimizer.param_groups[0]["lr"]
        self._beta = pl_module.beta if pl_module.uses_decoder else None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Gather the batch; when the optimizer has stepped, write the step's line."""
        self._parts.append(outputs["parts"])
        self._shares.append((batch.share_of_sets, batch.share_of_labels))
        self._stays += batch.whole.stays if batch.whole is not None else batch.stays
        if trainer.global_step > self.recorder.beat.step:
            self._commit(trainer, pl_module, batch_idx + 1)

    def _commit(self, trainer: L.Trainer, module: L.LightningModule, batches: int) -> None:
        assert isinstance(module, SeqSetVAEModule)
        step, now = trainer.global_step, time.perf_counter()
        taken = now - self._started - self.recorder.paused_s
        put = self.recorder.put
        put("epoch", round(batches / self.batches_per_epoch, 6))
        for name in STEP_SCALARS:
            if name not in module.scalars:
                put(name, None)
        self.recorder.put_all(module.scalars, mean_over_batches(module.scalars, self._parts, self._shares))
        put("beta", self._beta)
        put("lr", self._lr)
        put("grad_norm", module.grad_norm)
        put("step_s", taken)
        before, self._waited = self._waited, waited(trainer)
        if before is not None and self._waited is not None:
            put("wait_s", self._waited - before)
        put("stays", self._stays)
        self.recorder.commit(step)
        self._beat(step, batches, taken, self._stays)
        self._parts, self._shares, self._stays = [], [], 0
        self._started, self.recorder.paused_s = time.perf_counter(), 0.0

    def _beat(self, step: int, batches: int, taken: float, stays: int) -> None:
        """Rate of the latest steps; time left by all that was done in this session, validations and checkpoints included."""
        beat = self.recorder.beat
        self._steps += 1
        weight = max(0.05, 1 / self._steps)
        seconds = weight * taken + (1 - weight) / (beat.steps_per_s or 1.0)
        beat.steps_per_s = 1 / max(seconds, 1e-9)
        beat.stays_per_s = weight * stays / max(taken, 1e-9) + (1 - weight) * (beat.stays_per_s or 0.0)
        beat.epoch = batches / self.batches_per_epoch
        if beat.max_steps:
            beat.eta_s = max(beat.max_steps - step, 0) * (time.perf_counter() - self._began) / self._steps

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation is not step time, and may be long: nothing waits for its end to be written."""
        self.recorder.flush()
        self.recorder.beat.phase = "validating"

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation; restart the clock of the step."""
        assert isinstance(pl_module, SeqSetVAEModule)
        self.recorder.flush()
        self.recorder.evaluation("validation", trainer.global_step, pl_module.validation)
        self._started, self.recorder.paused_s = time.perf_counter(), 0.0
        self.recorder.beat.phase = "training"


def mean_over_batches(
    names: Sequence[str], parts: Sequence[torch.Tensor], shares: Sequence[tuple[float, float]]
) -> torch.Tensor:
    """Values [N] of a step out of those of its batches, each [N], as if these had been one batch.

    A batch counts for its shares of sets and of labelled stays, which are 1 with a fixed number of stays. The shares are numbers of
    the host: nothing is copied to a device.
    """
    if all(share == (1.0, 1.0) for share in shares):
        return torch.stack(list(parts)).mean(dim=0)
    by_sets, by_labels = (
        torch.stack([own * share for own, share in zip(parts, kind, strict=True)]).sum(dim=0) / (sum(kind) or 1.0)
        for kind in zip(*shares, strict=True)
    )
    if "prediction" in names:
        at = {name: names.index(name) for name in ("loss", "prediction", "weight_prediction")}
        difference = by_labels[at["prediction"]] - by_sets[at["prediction"]]
        by_sets[at["loss"]] += parts[0][at["weight_prediction"]] * difference
        by_sets[at["prediction"]] += difference
    return by_sets


class Patience(L.Callback):
    """Early stopping: ends training when validation AUROC has not risen for `patience` validations in a row.

    A validation with a single class has no AUROC and does not count.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = -1.0
        self.waited = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that had lost its patience before it was killed does not go on."""
        self._judge(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare with the best."""
        assert isinstance(pl_module, SeqSetVAEModule)
        auroc = pl_module.validation.get("auroc")
        if auroc is not None:
            self.waited = 0 if auroc > self.best else self.waited + 1
            self.best = max(auroc, self.best)
            self._judge(trainer)

    def _judge(self, trainer: L.Trainer) -> None:
        trainer.should_stop |= self.waited >= self.patience

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say so, after the validation that it was judged by."""
        if self.waited >= self.patience:
            print(
                f"early stopping: validation AUROC has not risen above {self.best:.4f} in {self.waited} validations; "
                "a larger --early_stopping_patience goes on",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Kept in checkpoints; the patience itself may change on a resume."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `state_dict` gave it."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
