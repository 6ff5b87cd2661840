"""Batches of stays as flat tensors: events [E], sets [S], stays [P]. Padding exists only where attention needs it."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from backend.buckets import Bucket, bucket_width, make_buckets
from backend.packing import pack, unpack
from backend.store import PreparedDataset
from backend.waiting import WatchedLoader
from backend.whole import Whole
from shared.config import DataConfig
from shared.errors import InputError

STANDARDISED_LIMIT = 10.0


@dataclass(frozen=True)
class Batch:
    """P stays with S sets and E events; True in a mask always means observed."""

    variable: Tensor
    """[E] index into the vocabulary"""
    value: Tensor
    """[E] standardised value; 0 for a constant variable"""
    set_of_event: Tensor
    """[E] index into the batch's sets"""
    minute: Tensor
    """[S] minutes since admission, never falling within a stay"""
    gap: Tensor
    """[S] minutes since the stay's previous set, 0 for the first"""
    stay_of_set: Tensor
    """[S] index into the batch's stays; sets lie stay by stay in time order"""
    position_of_set: Tensor
    """[S] 0, 1, ... within its stay"""
    last_set: Tensor
    """[P] the stay's last set"""
    label: Tensor
    """[P] outcome, NaN where unknown"""
    row: Tensor
    """[P] row of the stay in the data set's table"""
    set_row: Tensor
    """[S] index of the set in the data set"""
    set_order: Tensor
    """[S] the sets in the order in which the buckets hold them"""
    padded_length: int
    buckets: tuple[Bucket, ...]
    share_of_sets: float = 1.0
    """What its means over sets count for: its sets over those of an average batch of the epoch (`token_batches`)"""
    share_of_labels: float = 1.0
    """The same of its mean over labelled stays"""
    whole: Whole | None = None
    """The batch over all ranks, where there are several"""

    @property
    def stays(self) -> int:
        """P"""
        return self.label.shape[0]

    @property
    def sets(self) -> int:
        """S"""
        return self.minute.shape[0]

    @property
    def events(self) -> int:
        """E"""
        return self.variable.shape[0]

    @property
    def slot_of_set(self) -> Tensor:
        """[S] place in the padded [P * T] grid"""
        return self.stay_of_set * self.padded_length + self.position_of_set

    def by_bucket(self, x: Tensor) -> tuple[Tensor, ...]:
        """Flat events [E, ...] cut into one piece per bucket: one split, whose gradient is one concatenation."""
        return x.split([bucket.stop - bucket.start for bucket in self.buckets])

    def pad_sets(self, x: Tensor) -> Tensor:
        """Flat sets [S, ...] to [P, T, ...], zeros after the end of a stay."""
        grid = x.new_zeros((self.stays * self.padded_length, *x.shape[1:]))
        return grid.index_copy(0, self.slot_of_set, x).view(self.stays, self.padded_length, *x.shape[1:])

    def flat_sets(self, grid: Tensor) -> Tensor:
        """[P, T, ...] back to flat sets [S, ...]."""
        return grid.flatten(0, 1)[self.slot_of_set]

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        whole = replace(self.whole, place=change(self.whole.place)) if self.whole is not None else None
        buckets = tuple(replace(b, **_tensors(b, change)) for b in self.buckets)
        return replace(self, **_tensors(self, change), buckets=buckets, whole=whole)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process as one block."""
        return _unpacked, pack({f.name: getattr(self, f.name) for f in fields(self)})

    def to(self, device: str | torch.device, non_blocking: bool = True) -> "Batch":
        """The same batch on another device (Lightning calls this); copies from page-locked memory do not wait."""
        return self._map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (DataLoader calls this)."""
        return self._map(Tensor.pin_memory)


def _unpacked(*packed: Any) -> Batch:
    return Batch(**unpack(*packed))


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start+1, ... for every (start, count), end to end, without a loop."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def _tensors(of: Batch | Bucket, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {f.name: change(x) for f in fields(of) if isinstance(x := getattr(of, f.name), Tensor)}


class StayDataset(Dataset):
    """Rows of one split, collated straight from the memory-mapped store.

    `item[rows]` is a whole batch: the loader passes lists of rows through (`batch_size=None`), so that workers share the
    pages of the store and nothing is copied per event.
    """

    def __init__(self, data: PreparedDataset, split: str, config: DataConfig) -> None:
        if config.label not in data.info.labels:
            known = ", ".join(sorted(data.info.labels))
            raise InputError(f"data.label: {config.label!r} is not an outcome of {data.info.name!r}; it has: {known}")
        self.data = data
        self.split = split
        self.config = config
        self.rows = data.split_indices(split)
        self._set_start = data.stays["set_start"].to_numpy()
        self._set_count = data.stays["set_count"].to_numpy()
        self._labels = data.stays[config.label].to_numpy(np.float32)
        self._scaler = Standardiser(data)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """Outcome of every stay of the split, NaN where unknown."""
        return self._labels[self.rows]

    def outcomes(self, rows: np.ndarray) -> np.ndarray:
        """Outcome of each stay, NaN where unknown."""
        return self._labels[rows]

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        chosen = np.asarray(rows, dtype=np.int64)
        first, count = self.extent(chosen)
        limit = self.config.max_sequence_length
        padded = int(count.max()) if self.config.use_dynamic_padding or limit is None else limit
        return self._batch(chosen, ranges(first, count), count, padded)

    def extent(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First set and number of sets of each stay, the most recent ones where it is too long."""
        count = self._set_count[rows]
        first = self._set_start[rows]
        limit = self.config.max_sequence_length
        if limit is not None:
            first = first + np.maximum(count - limit, 0)
            count = np.minimum(count, limit)
        return first, count

    def some_sets(self, rows: np.ndarray, sets: Sequence[np.ndarray]) -> Batch:
        """A batch with some sets of each stay, in time order: for the set encoder, which looks at each by itself."""
        count = np.array([len(own) for own in sets])
        return self._batch(rows, np.concatenate(sets), count, int(count.max()))

    def _batch(self, rows: np.ndarray, sets: np.ndarray, count: np.ndarray, padded: int) -> Batch:
        return _collate(self.data, self._scaler, sets, count, padded, rows, self._labels[rows])


class Standardiser:
    """Raw values to standard deviations from the training mean, and back to clinical units."""

    def __init__(self, data: PreparedDataset) -> None:
        variables = data.info.variables
        self.modelled = np.array([v.std is not None and not v.constant for v in variables])
        self.mean = np.array([v.mean if v.mean is not None else 0.0 for v in variables], np.float32)
        self.std = np.array([v.std if v.std and not v.constant else 1.0 for v in variables], np.float32)
        self.low = np.array([v.low if v.low is not None else -np.inf for v in variables], np.float32)
        self.high = np.array([v.high if v.high is not None else np.inf for v in variables], np.float32)

    def __call__(self, variable: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """[E] raw values to [E] standardised, clipped to the training quantiles; 0 where the value is not modelled."""
        clipped = np.clip(raw, self.low[variable], self.high[variable])
        z = (clipped - self.mean[variable]) / self.std[variable]
        z = np.where(self.modelled[variable], z, 0.0)
        return np.clip(z, -STANDARDISED_LIMIT, STANDARDISED_LIMIT).astype(np.float32)


def _collate(
    data: PreparedDataset,
    scaler: Standardiser,
    sets: np.ndarray,
    count: np.ndarray,
    padded: int,
    rows: np.ndarray,
    labels: np.ndarray,
) -> Batch:
    """Sets [S] of stays with `count` [P] sets each, to tensors."""
    start = data.set_start[sets]
    size = data.set_start[sets + 1] - start
    width = bucket_width(size)
    order = np.argsort(width, kind="stable")
    events = ranges(start[order], size[order])
    variable = data.event_variable[events].astype(np.int64)
    minute = data.set_minute[sets].astype(np.float32)
    stay = np.repeat(np.arange(len(rows)), count)
    gap = np.diff(minute, prepend=0.0).astype(np.float32)
    gap[np.cumsum(count) - count] = 0.0
    return Batch(
        variable=torch.from_numpy(variable),
        value=torch.from_numpy(scaler(variable, data.event_value[events])),
        set_of_event=torch.from_numpy(np.repeat(order, size[order])),
        minute=torch.from_numpy(minute),
        gap=torch.from_numpy(gap),
        stay_of_set=torch.from_numpy(stay),
        position_of_set=torch.from_numpy(ranges(np.zeros_like(count), count)),
        last_set=torch.from_numpy(np.cumsum(count) - 1),
        label=torch.from_numpy(labels.copy()),
        row=torch.from_numpy(rows),
        set_row=torch.from_numpy(sets),
        set_order=torch.from_numpy(order),
        padded_length=padded,
        buckets=tuple(make_buckets(size[order], width[order])),
    )


class StaySampler(Sampler[list[int]]):
    """The whole run as one stream of batches: batch i is a pure function of (seed, i), so a resume starts anywhere.

    Every epoch is a fresh permutation of the split; a batch never crosses the end of an epoch. Under several processes
    each takes its share of every global batch.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, epochs: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.first_batch = 0
        """Where iteration starts: set on resume."""

    @property
    def batches_per_epoch(self) -> int:
        """Global batches in one pass over the split; the last may be smaller."""
        return max(-(-len(self.rows) // (self.batch_size * self.world_size)), 1)

    def __len__(self) -> int:
        return self.batches_per_epoch * self.epochs

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = self.batches_per_epoch
        for epoch in range(self.first_batch // per_epoch, self.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            skip = self.first_batch - epoch * per_epoch if epoch == self.first_batch // per_epoch else 0
            for i in range(skip, per_epoch):
                chunk = order[i * self.batch_size * self.world_size : (i + 1) * self.batch_size * self.world_size]
                share = chunk[self.rank :: self.world_size]
                yield (share if len(share) else chunk[:1]).tolist()


def fixed_batches(rows: np.ndarray, batch_size: int) -> list[list[int]]:
    """Batches in table order, for evaluation."""
    return [rows[i : i + batch_size].tolist() for i in range(0, len(rows), batch_size)]


def loader(dataset: Any, batches: Sampler[Any] | list[list[int]], workers: int, pin: bool) -> DataLoader:
    """A DataLoader over ready-made batches of rows of a `StayDataset`, or of one whose batches are weighted."""
    return WatchedLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=dataset.config.persistent_workers and workers > 0,
        prefetch_factor=4 if workers > 0 else None,
        worker_init_fn=_leave_signals_to_the_trainer,
    )


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: only the trainer acts on it, and needs its workers for the step in hand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
