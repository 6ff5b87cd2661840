"""Statistics per variable from the training split alone: exact, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from shared.dataset import VariableInfo

LOW_QUANTILE, HIGH_QUANTILE = 0.001, 0.999
EVENTS_AT_ONCE = 4_000_000
GROUPED = "training_values.tmp"


def training_statistics(folder: Path, stays: pd.DataFrame, names: list[str], units: dict[str, str]) -> list[VariableInfo]:
    """One `VariableInfo` per name, in order.

    The training values are first gathered by variable in a scratch file (a counting sort on disk), so that quantiles are
    exact and memory holds the values of one variable, or one block of events.
    """
    counts = np.zeros(len(names), dtype=np.int64)
    for variable, _ in _training_events(folder, stays):
        counts += np.bincount(variable, minlength=len(names))
    scratch = folder / GROUPED
    try:
        _gather(scratch, folder, stays, counts)
        starts = np.cumsum(counts) - counts
        return [
            describe(name, units.get(name, ""), np.fromfile(scratch, np.float32, int(count), offset=int(start) * 4))
            for name, count, start in zip(names, counts, starts, strict=True)
        ]
    finally:
        scratch.unlink(missing_ok=True)


def describe(name: str, unit: str, values: np.ndarray) -> VariableInfo:
    """Quantiles of `values` [n], then mean and (population) standard deviation after clipping to them."""
    if not len(values):
        return VariableInfo(name=name, unit=unit, count=0)
    low, high = (float(quantile) for quantile in np.quantile(values, [LOW_QUANTILE, HIGH_QUANTILE]))
    # Rounding leaves a tiny spread in equal numbers: what cannot vary is decided by the limits.
    constant = low == high
    clipped = np.clip(values.astype(np.float64), low, high)
    return VariableInfo(
        name=name, unit=unit, count=len(values), low=low, high=high, constant=constant,
        mean=low if constant else float(clipped.mean()), std=0.0 if constant else float(clipped.std()),
    )  # fmt: skip


def _gather(scratch: Path, folder: Path, stays: pd.DataFrame, counts: np.ndarray) -> None:
    free = np.cumsum(counts) - counts
    with scratch.open("wb") as file:
        for variable, value in _training_events(folder, stays):
            grouped = value[np.argsort(variable, kind="stable")]
            here = np.bincount(variable, minlength=len(counts))
            ends = np.cumsum(here)
            for index in np.flatnonzero(here):
                file.seek(int(free[index]) * 4)
                grouped[ends[index] - here[index] : ends[index]].tofile(file)
            free += here


def _training_events(folder: Path, stays: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(variable, value) of all training events, a block of whole stays at a time."""
    ends = stays["event_count"].to_numpy().cumsum()
    training = (stays["split"] == "train").to_numpy()
    first = 0
    while first < len(stays):
        start = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, start + EVENTS_AT_ONCE, side="right")), first + 1)
        stop = int(ends[last - 1])
        keep = np.repeat(training[first:last], np.diff(ends[first:last], prepend=start))
        # Mapped anew for each block: pages of a lasting map would count as this process's memory.
        variable = np.load(folder / "event_variable.npy", mmap_mode="r")[start:stop][keep]
        value = np.load(folder / "event_value.npy", mmap_mode="r")[start:stop][keep]
        yield variable, value
        first = last
