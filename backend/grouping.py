"""From flat events to stays and sets."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grouped:
    """How E events fall into P stays and S sets; arrays of events are to be taken in `order`."""

    order: np.ndarray
    """Permutation that sorts events by stay, then by set; within a set the order given [E]."""
    stays: np.ndarray
    """The number of each stay that has events, ascending [P]."""
    set_count: np.ndarray
    """Sets per stay [P]."""
    set_size: np.ndarray
    """Events per set [S]."""
    set_minute: np.ndarray
    """Earliest minute in each set [S]."""
    unsorted: int
    """Stays whose events were not in order of time and set."""
    repeats: int
    """Events whose stay, set and variable occurred before."""


def group_sets(stay: np.ndarray, key: np.ndarray, minute: np.ndarray, variable: np.ndarray) -> Grouped:
    """Group events: one set is one `key` within one `stay`; sets lie in order of time, then of key. All arrays are [E].

    `stay` must ascend. E must be at least 1.
    """
    by_key = np.lexsort((key, stay))
    starts = _starts(stay[by_key], key[by_key])
    earliest = np.empty(len(stay), dtype=minute.dtype)
    set_of = np.cumsum(starts) - 1
    earliest[by_key] = np.minimum.reduceat(minute[by_key], np.flatnonzero(starts))[set_of]

    order = np.lexsort((key, earliest, stay))
    moved = stay[np.flatnonzero(order != np.arange(len(order)))]
    starts = _starts(stay[order], key[order])
    first = np.flatnonzero(starts)
    set_stay = stay[order][first]
    stays, set_count = np.unique(set_stay, return_counts=True)
    set_number = np.cumsum(starts) - 1
    # Sorting what is nearly sorted takes a tenth of numpy's unique, which hashes.
    different = _runs(np.sort(set_number * (int(variable.max()) + 1) + variable[order]))
    return Grouped(
        order=order,
        stays=stays,
        set_count=set_count,
        set_size=np.diff(first, append=len(stay)),
        set_minute=earliest[order][first],
        unsorted=_runs(moved),
        repeats=len(stay) - different,
    )


def _runs(ascending: np.ndarray) -> int:
    """How many different values there are."""
    return int(np.count_nonzero(np.diff(ascending))) + 1 if len(ascending) else 0


def _starts(stay: np.ndarray, key: np.ndarray) -> np.ndarray:
    """True at the first event of each run of equal (stay, key) [E]."""
    return np.concatenate([[True], (np.diff(stay) != 0) | (np.diff(key) != 0)])
