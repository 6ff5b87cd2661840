"""How long a run is and how it is fed: counts that follow from the configuration, the data and the device."""

import os
from dataclasses import dataclass

import numpy as np
from lightning.pytorch.callbacks import EarlyStopping

from backend.batches import StayDataset
from shared.config import TrainConfig

LEAST_VALIDATION_STAYS = 256


@dataclass(frozen=True)
class Plan:
    """Batches are counted before accumulation, steps after it."""

    batches_per_epoch: int
    epochs: int
    accumulation: int
    total_steps: int
    validate_every: int
    """Batches between validations: whole steps."""
    eval_batch_size: int
    workers: int
    pin_memory: bool

    @classmethod
    def of(cls, config: TrainConfig, train_set: StayDataset, accelerator: str) -> "Plan":
        """Work out a run's counts."""
        accumulation = config.optim.gradient_accumulation_steps
        per_epoch = max(-(-len(train_set) // (config.data.batch_size * config.trainer.devices)), 1)
        epochs = config.trainer.max_epochs
        total = -(-per_epoch * epochs // accumulation)
        every = max(round(config.trainer.val_check_interval * per_epoch / accumulation), 1) * accumulation
        workers = config.data.num_workers
        if workers is None:
            workers = 0 if accelerator == "cpu" else max(min(8, (os.cpu_count() or 1) - 1), 1)
        pin = config.data.pin_memory
        return cls(
            batches_per_epoch=per_epoch,
            epochs=epochs,
            accumulation=accumulation,
            total_steps=min(total, config.trainer.max_steps or total),
            validate_every=min(every, per_epoch * epochs),
            eval_batch_size=max(config.data.batch_size, 32),
            workers=workers,
            pin_memory=accelerator == "gpu" if pin is None else pin,
        )

    def epoch_at(self, step: int) -> float:
        """Passes over the training split after `step` optimizer steps."""
        return min(step * self.accumulation, self.batches_per_epoch * self.epochs) / self.batches_per_epoch

    def position(self, step: int) -> dict[str, float]:
        """What a checkpoint keeps, so that a run can go on with another batch size."""
        return {"epoch": self.epoch_at(step)}

    def early_stopping(self, config: TrainConfig) -> EarlyStopping:
        """Stop when validation AUROC has not risen for `early_stopping_patience` validations."""
        return EarlyStopping(
            "valid_auroc",
            mode="max",
            patience=config.trainer.early_stopping_patience,
            strict=False,
            check_on_train_epoch_end=False,
        )


def validation_rows(valid_set: StayDataset, config: TrainConfig) -> np.ndarray:
    """The fixed part of the validation split used while training: a share, but at least 256 stays where there are."""
    rows = valid_set.rows
    count = max(round(config.trainer.limit_val_batches * len(rows)), min(LEAST_VALIDATION_STAYS, len(rows)))
    return np.sort(np.random.default_rng(config.trainer.seed).permutation(rows)[:count])
