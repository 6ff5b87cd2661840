"""Latents snapshots of a run as the Latent space page needs them: which there are, their contents, what to colour them by.

What was read is remembered by path, time of change and size, and the least recently used forgotten.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import InputError
from shared.latents import LatentSets, fingerprint, read_latents
from shared.layout import RunLayout

STEP, CHECKPOINT = "step-", "checkpoint-"
"""How a snapshot is named in an address, as on the Reconstruction page."""
R = TypeVar("R")


@dataclass(frozen=True)
class Source:
    """One latents snapshot with what belongs to it: made after a step of training, or later from a checkpoint."""

    key: str
    label: str
    latents: Path
    posterior: Path
    reconstruction: Path
    step: int | None = None
    checkpoint: str | None = None


def snapshots(layout: RunLayout) -> list[Source]:
    """Of training, oldest first."""
    return [
        Source(f"{STEP}{step}", f"step {step:,}", path, layout.posterior(step), layout.reconstruction(step), step=step)
        for step, path in layout.snapshots("latents")
    ]


def analysed(layout: RunLayout) -> list[Source]:
    """Made from checkpoints, in name order."""
    return [
        Source(
            f"{CHECKPOINT}{stem}", f"checkpoint {stem}", path, layout.analysed("posterior", stem),
            layout.analysed("reconstruction", stem), checkpoint=stem,
        )
        for stem, path in layout.all_analysed("latents")
    ]  # fmt: skip


def remembered(most: int) -> Callable[[Callable[[Path], R]], Callable[[Path], R]]:
    """Keeps what a function of one file gave for the `most` last files, as long as those do not change."""

    def wrap(read: Callable[[Path], R]) -> Callable[[Path], R]:
        @lru_cache(maxsize=most)
        def kept(path: Path, _version: tuple[str, int, int]) -> R:
            return read(path)

        return lambda path: kept(path, version(path))

    return wrap


def version(path: Path) -> tuple[str, int, int]:
    """Of a file: what was made from it holds as long as this stays the same."""
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


class Kept:
    """The last things that were made, for all sessions: going back to a snapshot costs nothing."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        """What `make` gave for that key, now or before."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._lock:
            self._found[key] = made
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        return made


@remembered(12)
def sets_of(path: Path) -> LatentSets:
    """A latents snapshot. Raises InputError."""
    return read_latents(path)


@remembered(512)
def input_of(path: Path) -> str:
    """Fingerprint of a snapshot. Raises InputError."""
    try:
        return fingerprint(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _table(path: Path, columns: list[str]) -> pd.DataFrame | None:
    """Those columns, or None where the file is not there or lacks them. Raises InputError for a broken file."""
    try:
        return pq.read_table(path, columns=columns).to_pandas()
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


@remembered(12)
def errors_of(path: Path) -> dict[tuple[str, float], float] | None:
    """Of a reconstruction snapshot: root mean square error of each set, in standard deviations, by stay and minute."""
    frame = _table(path, ["stay_id", "minute", "error_in_std"])
    if frame is None:
        return None
    frame = frame[np.isfinite(frame["error_in_std"])]
    square = frame["error_in_std"].astype(float) ** 2
    mean = square.groupby([frame["stay_id"].astype(str), frame["minute"]]).mean()
    return {(stay, float(minute)): float(value) ** 0.5 for (stay, minute), value in mean.items()}


@remembered(24)
def posterior_of(path: Path) -> pd.DataFrame | None:
    """A posterior snapshot: one line for each dimension."""
    frame = _table(path, ["level", "dim", "kl", "var_mu", "active", "kind"])
    return frame if frame is not None and len(frame) else None


@dataclass(frozen=True)
class Observed:
    """What had been measured at each set."""

    frame: pd.DataFrame
    units: dict[str, str]

    @cached_property
    def names(self) -> list[str]:
        """Variables, the most often known first."""
        return [str(name) for name in self.frame["variable"].value_counts().index]


@remembered(4)
def observed_of(path: Path) -> Observed | None:
    """The known values of a run; None where it has none (an older release, or another model)."""
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    if not {"set_row", "variable", "value", "minute"} <= set(frame.columns):
        raise InputError(f"{path}: has to have the columns set_row, variable, value and minute")
    return Observed(frame, dict(frame.attrs.get("units", {})))
