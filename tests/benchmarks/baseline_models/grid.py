"""A batch of stays as the dense blocks that GRU-D and mTAND read."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.batches import Batch


@dataclass(frozen=True)
class Grid:
    """P stays of at most T times, V variables. Nothing is observed after a stay's last time."""

    value: Tensor
    """[P, T, V] standardised; the mean of repeats within a set; 0, the training mean, where nothing was observed"""
    observed: Tensor
    """[P, T, V] 1 where observed, else 0"""
    hours: Tensor
    """[P, T] since admission; 0 after the stay's last time"""
    last: Tensor
    """[P] index of the stay's last time"""
    label: Tensor
    """[P] outcome, NaN where unknown"""

    @classmethod
    def of(cls, batch: Batch, variables: int) -> "Grid":
        """The same stays, dense."""
        cell = batch.slot_of_set[batch.set_of_event] * variables + batch.variable
        empty = batch.value.new_zeros(batch.stays * batch.padded_length * variables)
        count = empty.index_add(0, cell, torch.ones_like(batch.value))
        mean = empty.index_add(0, cell, batch.value) / count.clamp(min=1)
        shape = batch.stays, batch.padded_length, variables
        return cls(
            value=mean.view(shape),
            observed=(count > 0).to(mean.dtype).view(shape),
            hours=batch.pad_sets(batch.minute) / 60,
            last=batch.position_of_set[batch.last_set],
            label=batch.label,
        )
