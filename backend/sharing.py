"""Shares of one stream of batches for several processes: batch i is the same however many there are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from backend.batches import Batch, StayDataset, ranges
from backend.whole import Whole
from shared.config import DataConfig


class SharedStays(Dataset):
    """A rank's share of every batch of rows: each `world`-th stay, or its part where the batch comes as one part for each rank.

    With it comes what it has to know of the whole batch. That follows from the tables that every rank has; nothing is sent.
    `average` is what a part has of sets and of labelled stays on average, where whole batches are weighted by their size.
    """

    def __init__(self, stays: StayDataset, rank: int, world: int, average: tuple[float, float] | None = None) -> None:
        self.stays = stays
        self.rank = rank
        self.world = world
        self.average = average

    @property
    def config(self) -> DataConfig:
        """How it is loaded."""
        return self.stays.config

    def __getitem__(self, rows: Sequence[int] | Sequence[Sequence[int]]) -> Batch:
        chosen, places = self._split(rows)
        count = self.stays.extent(chosen)[1]
        stand_in = not len(places[self.rank])
        own = np.zeros(1, np.int64) if stand_in else places[self.rank]
        whole = Whole(
            sets=int(count.sum()),
            stays=len(chosen),
            labelled=int((~np.isnan(self.stays.outcomes(chosen))).sum()),
            sets_of_rank=tuple(int(count[of_rank].sum()) for of_rank in places),
            place=torch.from_numpy(ranges((np.cumsum(count) - count)[own], count[own])),
            stand_in=stand_in,
        )
        batch = replace(self.stays[chosen[own].tolist()], whole=whole)
        if self.average is None:
            return batch
        sets, labelled = (self.world * mean for mean in self.average)
        return replace(batch, share_of_sets=whole.sets / sets, share_of_labels=whole.labelled / labelled if labelled else 1.0)

    def _split(self, rows: Sequence[int] | Sequence[Sequence[int]]) -> tuple[np.ndarray, list[np.ndarray]]:
        """All rows [P] of the whole batch, and which of them each rank has."""
        if isinstance(rows[0], int | np.integer):
            chosen = np.asarray(rows, dtype=np.int64)
            return chosen, [np.arange(rank, len(chosen), self.world) for rank in range(self.world)]
        parts = [np.asarray(part, dtype=np.int64) for part in rows]
        ends = np.cumsum([len(part) for part in parts])
        return np.concatenate(parts), [np.arange(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
