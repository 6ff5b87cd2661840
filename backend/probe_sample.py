"""Which stays and sets the fixed probe looks at: the same at every evaluation, and few enough to cost little."""

from dataclasses import dataclass, field

import numpy as np

from backend.batches import Batch, StayDataset
from shared.collapse import Thresholds

SAMPLED_SETS = 1280
"""Latents of a sample. Those of one patient resemble each other: 5 of each of 256 patients say nearly as much as all 50."""
SHOWN_SETS = 2048
"""Sets whose events go to a snapshot, at most."""
PICTURED_SETS = 768
"""Sets of decoded stays, at most, whose latents and states go to a snapshot: spread over each stay, so that one can follow it."""
DECODED_STAYS = 32
"""Stays that are decoded, whole: a state of the transformer needs every set before it."""
STAYS_PER_BATCH = 16
SETS_PER_BATCH = 1024
"""On a CPU, batches that leave its cache take a quarter longer."""


@dataclass(frozen=True)
class SampleSize:
    """How much of the stays is looked at. The defaults cost little, for the sake of training."""

    sets: int = field(default_factory=lambda: SAMPLED_SETS)
    shown: int = field(default_factory=lambda: SHOWN_SETS)
    pictured: int = field(default_factory=lambda: PICTURED_SETS)
    decoded: int = field(default_factory=lambda: DECODED_STAYS)
    stays_per_batch: int = field(default_factory=lambda: STAYS_PER_BATCH)


@dataclass(frozen=True)
class ProbeSample:
    """Batches to evaluate: `whole` stays to encode and decode, `thinned` ones with some of their sets, to encode."""

    patients: int
    from_train: int
    """Patients of the training split among them."""
    decoded: int
    whole: list[Batch]
    thinned: list[Batch]
    rows: np.ndarray
    """The stays, rows of the data set's table"""
    sets: np.ndarray
    """Rows of the sets whose latents are the sample, about equally many of each patient"""
    shown: np.ndarray
    """Rows of the decoded sets whose events go to snapshots"""
    pictured: np.ndarray
    """Rows of the sets whose latents go to snapshots: those of the sample, and more of the decoded stays"""


def choose(dataset: StayDataset, patients: int, seed: int, size: SampleSize | None = None) -> ProbeSample:
    """A sample of up to `patients` stays of a split; one too small for a verdict is topped up from the training split."""
    rng, size = np.random.default_rng(seed), size or SampleSize()
    rows = np.sort(rng.permutation(dataset.rows)[:patients])
    missing = min(patients, Thresholds.minimum_patients) - len(rows)
    more = np.setdiff1d(dataset.data.split_indices("train"), rows)
    more = rng.permutation(more)[:missing] if missing > 0 else more[:0]
    rows = np.concatenate([rows, np.sort(more)])
    first, count = dataset.extent(rows)
    most = max(size.sets // len(rows), 2)
    sets = [start + np.sort(rng.permutation(n)[:most]) for start, n in zip(first, count, strict=True)]
    decoded = rng.permutation(len(rows))[: size.decoded]
    decoded = decoded[np.argsort(count[decoded], kind="stable")]  # stays of one length are padded least
    others = np.setdiff1d(np.arange(len(rows)), decoded)
    whole = [dataset[rows[own].tolist()] for own in _parts(decoded, len(decoded), size.stays_per_batch)]
    decoded_sets = np.concatenate([batch.set_row.numpy() for batch in whole])
    return ProbeSample(
        patients=len(rows),
        from_train=len(more),
        decoded=len(decoded),
        whole=whole,
        thinned=[
            dataset.some_sets(rows[own], [sets[i] for i in own])
            for own in _parts(others, sum(len(sets[i]) for i in others), SETS_PER_BATCH)
        ],
        rows=rows,
        sets=np.concatenate(sets),
        shown=np.sort(rng.permutation(decoded_sets)[: size.shown]),
        pictured=np.union1d(np.concatenate(sets), _spread(first[decoded], count[decoded], size.pictured // len(decoded))),
    )


def _spread(first: np.ndarray, count: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` sets of each stay, the first and the last among them, evenly apart."""
    places = (np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)) for n in count)
    return np.concatenate([start + own for start, own in zip(first, places, strict=True)])


def _parts(chosen: np.ndarray, size: int, most: int) -> list[np.ndarray]:
    """As many equal parts as keep `size` below `most` in each: none of a single stay, unless there is but one."""
    return [part for part in np.array_split(chosen, max(-(-size // most), 1)) if len(part)]
