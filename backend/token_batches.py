"""Batches of about N events (`--batch_events`) in place of a fixed number of stays, each weighted by its share of the epoch.

Stays are shuffled, sorted by length within windows of the shuffled order, cut into batches of at most N events, and the batches
shuffled: every stay comes once an epoch, beside stays of its own length, so that little is padded.

Every epoch has the same number of batches, K. How many a shuffle needs differs by a few: K is the most of some shuffles, a
shuffle that needs more is drawn again, and one that needs fewer has its largest batches halved. All of it is a function of
(seed, epoch), so that a resume starts anywhere and processes agree without a word.

The terms of the loss are means, over the sets of a batch (reconstruction, KL) and over its labelled stays (outcome). With S_b
sets in batch b and S in the epoch, a mean over batches would favour the sets of small ones. Weighted by S_b K / S it does not:

    1/K sum_b (S_b K / S) (1/S_b) sum_{i in b} loss_i  =  1/S sum_i loss_i

and the expected gradient of a batch drawn at random is the gradient of the epoch's mean; likewise with labelled stays for the
outcome. It stays so in the mean over accumulated batches, or over processes with one batch each. (A floor of free bits is put
under the mean of a batch, here as with a fixed number of stays: where it acts, no batch's gradient is exactly the epoch's.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset, Sampler

from backend.batches import Batch, StayDataset, StaySampler
from backend.sharing import SharedStays
from shared.config import DataConfig, TrainConfig
from shared.errors import InputError

DRAWS = 8
"""Shuffles that are packed to find the number of batches of an epoch."""
BATCHES_PER_WINDOW = 32
"""Of about this many batches the stays are sorted by length: more pads less, fewer mix better."""


class Packing:
    """How the rows of a split fall into batches of at most `budget` events; a stay that is longer is a batch by itself.

    Raises:
        InputError: there are fewer stays than processes need batches.
    """

    def __init__(self, rows: np.ndarray, events: np.ndarray, budget: int, seed: int, world_size: int = 1) -> None:
        self.rows = rows
        self.events = events
        self.budget = budget
        self.seed = seed
        self.window = max(round(BATCHES_PER_WINDOW * budget / events.mean()), 1)
        most = max(len(self._cuts(self._sorted(epoch, 0)[1])) for epoch in range(DRAWS))
        self.batches = -(-most // world_size) * world_size
        """In every epoch; a multiple of the number of processes."""
        if self.batches > len(rows):
            raise InputError(
                f"data.batch_events: {budget:,} events hold one stay, and {len(rows):,} stays do not divide among {world_size} "
                "processes; raise it"
            )

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of an epoch, rows of each, in the order of training."""
        attempt = 0
        while True:
            order, events = self._sorted(number, attempt)
            starts = self._cuts(events)
            if len(starts) <= self.batches:
                break
            attempt += 1
        found = np.split(self.rows[order], self._halved(starts, events)[1:])
        shuffled = np.random.default_rng([self.seed, number, attempt, 1]).permutation(len(found))
        return [found[i] for i in shuffled]

    def _sorted(self, epoch: int, attempt: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions [P] in a shuffled order, sorted by events within windows, and their events [P].

        Up in one window, down in the next, so that a batch across their border also holds stays of one length.
        """
        order = np.random.default_rng([self.seed, epoch, attempt, 0]).permutation(len(self.rows))
        window = np.arange(len(order)) // self.window
        events = self.events[order]
        order = order[np.lexsort((np.where(window % 2, -events, events), window))]
        return order, self.events[order]

    def _cuts(self, events: np.ndarray) -> list[int]:
        """Where batches start: each takes what fits, and at least one stay."""
        ends = np.cumsum(events)
        starts, start, done = [], 0, 0
        while start < len(ends):
            starts.append(start)
            start = max(int(np.searchsorted(ends, done + self.budget, side="right")), start + 1)
            done = int(ends[start - 1])
        return starts

    def _halved(self, starts: list[int], events: np.ndarray) -> np.ndarray:
        """`starts` with the batches of the most events cut in two by stays, until there are as many as in every epoch."""
        cuts = np.array(starts, dtype=np.int64)
        while (missing := self.batches - len(cuts)) > 0:
            stays = np.diff(cuts, append=len(events))
            size = np.where(stays > 1, np.add.reduceat(events, cuts), 0)
            largest = np.argsort(-size, kind="stable")[: min(missing, int((stays > 1).sum()))]
            cuts = np.sort(np.concatenate([cuts, cuts[largest] + stays[largest] // 2]))
        return cuts


class TokenSampler(Sampler[list[int]]):
    """The whole run as one stream of batches of about equally many events; `first_batch` is set on resume.

    Under several processes each takes one batch of every `world_size` in a row.
    """

    def __init__(self, packing: Packing, epochs: int, rank: int = 0, world_size: int = 1) -> None:
        self.packing = packing
        self.epochs = epochs
        self.rank = rank
        self.world_size = world_size
        self.first_batch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Global batches in one pass over the split."""
        return self.packing.batches // self.world_size

    def __len__(self) -> int:
        return self.batches_per_epoch * self.epochs

    def __iter__(self) -> Iterator[list[int]]:
        first, skip = divmod(self.first_batch, self.batches_per_epoch)
        for epoch in range(first, self.epochs):
            own = self.packing.epoch(epoch)[self.rank :: self.world_size]
            yield from (rows.tolist() for rows in own[skip if epoch == first else 0 :])


class PartSampler(Sampler[list[list[int]]]):
    """The same stream for several processes: a whole batch is one batch for each of them, a list of their rows."""

    def __init__(self, packing: Packing, epochs: int, world_size: int) -> None:
        self.packing = packing
        self.epochs = epochs
        self.world_size = world_size
        self.first_batch = 0

    def __len__(self) -> int:
        return self.packing.batches // self.world_size * self.epochs

    def __iter__(self) -> Iterator[list[list[int]]]:
        stream = TokenSampler(self.packing, self.epochs)
        stream.first_batch = self.first_batch * self.world_size
        for parts in zip(*[iter(stream)] * self.world_size, strict=True):
            yield list(parts)


class WeightedStays(Dataset):
    """Batches of a split, each with its share of the sets and of the labelled stays of an epoch of `batches` batches."""

    def __init__(self, stays: StayDataset, batches: int) -> None:
        self.stays = stays
        self.sets = float(stays.extent(stays.rows)[1].sum()) / batches
        self.labelled = float((~np.isnan(stays.labels)).sum()) / batches

    @property
    def config(self) -> DataConfig:
        """How it is loaded."""
        return self.stays.config

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        batch = self.stays[rows]
        known = int((~batch.label.isnan()).sum())
        return replace(
            batch, share_of_sets=batch.sets / self.sets, share_of_labels=known / self.labelled if self.labelled else 1.0
        )


def events_of(dataset: StayDataset) -> np.ndarray:
    """Events of every stay of the split [P], of those sets that are kept."""
    first, count = dataset.extent(dataset.rows)
    starts = dataset.data.set_start
    return np.asarray(starts[first + count] - starts[first])


def packing_of(dataset: StayDataset, config: TrainConfig) -> Packing | None:
    """The packing that `--batch_events` asks for; None with a fixed number of stays per batch."""
    budget = config.data.batch_events
    if budget is None:
        return None
    return Packing(dataset.rows, events_of(dataset), budget, config.trainer.seed, world_of(config))


def world_of(config: TrainConfig) -> int:
    """Processes that share a training."""
    return config.trainer.devices * config.trainer.num_nodes


def stream(
    dataset: StayDataset, config: TrainConfig, epochs: int, rank: int = 0
) -> tuple[StayDataset | WeightedStays | SharedStays, StaySampler | TokenSampler | PartSampler]:
    """What training loads and in which order: whole batches, of which a rank gets its share."""
    packing, world = packing_of(dataset, config), world_of(config)
    if packing is None:
        size, seed = config.data.batch_size, config.trainer.seed
        shared = SharedStays(dataset, rank, world) if world > 1 else dataset
        return shared, StaySampler(dataset.rows, size * world, epochs, seed)
    weighted = WeightedStays(dataset, packing.batches)
    if world > 1:
        average = weighted.sets, weighted.labelled
        return SharedStays(dataset, rank, world, average), PartSampler(packing, epochs, world)
    return weighted, TokenSampler(packing, epochs)
