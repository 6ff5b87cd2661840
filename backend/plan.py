"""How long a run is and how it is fed: counts that follow from the configuration, the data and the device."""

import os
from dataclasses import dataclass, field

import numpy as np

from backend.batches import StayDataset
from backend.token_batches import packing_of, world_of
from shared.config import TrainConfig

LEAST_VALIDATION_STAYS = 256


@dataclass(frozen=True)
class Position:
    """A place between two steps: optimizer steps and batches done, in batches of `batch_size` stays (over all devices)."""

    step: int = 0
    batches: int = 0
    batch_size: int = 1
    batch_events: int | None = None
    """Most events of a batch, where that and not a number of stays made it."""
    per_epoch: int | None = None
    """Batches in an epoch, where that is known."""

    def batches_of(self, batch_size: int, stays: int) -> int:
        """The place in batches of another size. Rounded up: no stay is seen twice in an epoch, some may be left out once."""
        if batch_size == self.batch_size:
            return self.batches
        epochs, inside = divmod(self.batches, max(-(-stays // self.batch_size), 1))
        return epochs * max(-(-stays // batch_size), 1) + -(-inside * self.batch_size // batch_size)

    def batches_in(self, per_epoch: int, batch_events: int | None, stays: int) -> int:
        """The place in an epoch that is cut otherwise, by events: the same share of it, rounded up.

        The stays of that one epoch are others than were due: some come twice, as many are left out.
        """
        own = self.per_epoch or max(-(-stays // self.batch_size), 1)
        if (own, self.batch_events) == (per_epoch, batch_events):
            return self.batches
        epochs, inside = divmod(self.batches, own)
        return epochs * per_epoch + -(-inside * per_epoch // own)


@dataclass(frozen=True)
class Plan:
    """Batches are counted before accumulation, steps after it; both since the start of the run."""

    batch_size: int
    """Stays in a batch over all devices."""
    batches_per_epoch: int
    epochs: int
    accumulation: int
    start_step: int
    start_batch: int
    total_steps: int
    validate_every: int
    """Batches between validations: whole steps."""
    eval_batch_size: int
    workers: int
    pin_memory: bool = field(default=False)
    batch_events: int | None = field(default=None)
    """Most events in a batch of one device, where that makes batches and not `batch_size`."""

    @classmethod
    def of(cls, config: TrainConfig, train_set: StayDataset, accelerator: str, start: Position | None = None) -> "Plan":
        """Work out the counts of a run, or of the rest of it from `start`."""
        start = start or Position()
        accumulation = config.optim.gradient_accumulation_steps
        world = world_of(config)
        size = config.data.batch_size * world
        packing, stays = packing_of(train_set, config), len(train_set)
        per_epoch = max(-(-stays // size), 1) if packing is None else packing.batches // world
        batches = per_epoch * config.trainer.max_epochs
        events = config.data.batch_events
        by_stays = packing is None and start.batch_events is None
        place = start.batches_of(size, stays) if by_stays else start.batches_in(per_epoch, events, stays)
        done = min(place, batches)
        left = -(-batches // accumulation) - done // accumulation if done < batches else 0
        total = start.step + left
        every = max(round(config.trainer.val_check_interval * per_epoch / accumulation), 1) * accumulation
        pin = config.data.pin_memory
        return cls(
            batch_size=size,
            batches_per_epoch=per_epoch,
            epochs=config.trainer.max_epochs,
            accumulation=accumulation,
            start_step=start.step,
            start_batch=done,
            total_steps=min(total, config.trainer.max_steps or total),
            validate_every=min(every, batches),
            eval_batch_size=max(size, 32),
            workers=workers_of(config, accelerator),
            pin_memory=accelerator == "gpu" and pin is not False,
            batch_events=events,
        )

    def batches_at(self, step: int) -> int:
        """Batches done after `step` optimizer steps."""
        if step <= self.start_step:
            return self.start_batch
        whole = self.start_batch // self.accumulation + step - self.start_step
        return min(whole * self.accumulation, self.batches_per_epoch * self.epochs)

    def epoch_at(self, step: int) -> float:
        """Passes over the training split after `step` optimizer steps."""
        return self.batches_at(step) / self.batches_per_epoch

    @property
    def nothing_left(self) -> bool:
        """Whether the run has come to its end already."""
        return self.start_step >= self.total_steps


def workers_of(config: TrainConfig, accelerator: str) -> int:
    """Loader processes: as asked for, else none on a CPU, where they would take cores from training, and up to 8 on a GPU."""
    asked = config.data.num_workers
    return asked if asked is not None else 0 if accelerator == "cpu" else max(min(8, (os.cpu_count() or 1) - 1), 1)


def validation_rows(valid_set: StayDataset, config: TrainConfig) -> np.ndarray:
    """The fixed part of the validation split used while training: a share, but at least 256 stays where there are."""
    rows = valid_set.rows
    count = max(round(config.trainer.limit_val_batches * len(rows)), min(LEAST_VALIDATION_STAYS, len(rows)))
    return np.sort(np.random.default_rng(config.trainer.seed).permutation(rows)[:count])
