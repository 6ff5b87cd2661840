"""Writes the event store of a prepared data set, chunk by chunk; `backend/store.py` says what lies in it."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pandas as pd

from backend.store import ARRAYS
from shared.errors import InputError

MAX_VARIABLES = np.iinfo(np.uint16).max + 1


@dataclass(frozen=True)
class Chunk:
    """P whole stays on their way into a store, with S sets and E events in order.

    `stays` has P rows with `stay_id` and `subject_id` (strings) and whatever outcomes or splits the source knows already.
    `names` is the chunk's own vocabulary; the store makes one of all, in order of first appearance.
    """

    stays: pd.DataFrame
    set_count: np.ndarray
    """Sets per stay, at least 1 [P]."""
    set_size: np.ndarray
    """Events per set, at least 1 [S]."""
    set_minute: np.ndarray
    """Minutes since admission [S]."""
    variable: np.ndarray
    """Index into `names` [E]."""
    value: np.ndarray
    """As measured, finite [E]."""
    names: list[str]


class NpyAppender:
    """A one-dimensional .npy file written front to back: the header holds the length only once it is closed."""

    def __init__(self, path: Path, dtype: type) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()
        self._header_bytes = self._file.tell()

    def append(self, values: np.ndarray) -> None:
        """Add values [n], cast to the file's type."""
        np.ascontiguousarray(values, dtype=self.dtype).tofile(self._file)
        self.length += len(values)

    def close(self) -> None:
        """Write the true length into the header; numpy pads headers so that it always fits."""
        if self._file.closed:
            return
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._header_bytes:
            raise RuntimeError(f"{self._file.name}: the .npy header grew from {self._header_bytes} bytes")
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class StoreWriter:
    """Streams chunks into the arrays of `folder`; memory holds one chunk and the table of stays."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self.sets = 0
        self.events = 0
        self._index: dict[str, int] = {}
        self._stays: list[pd.DataFrame] = []
        self._files = {name: NpyAppender(folder / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
        self._files["set_start"].append(np.zeros(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()

    def append(self, chunk: Chunk) -> None:
        """Write the events of some stays.

        Raises:
            ValueError: the counts of the chunk disagree.
            InputError: more variables than the store can number.
        """
        if not (len(chunk.stays) == len(chunk.set_count) and chunk.set_count.sum() == len(chunk.set_size)):
            raise ValueError("a chunk's set_count must have one entry per stay and add up to its sets")
        if not len(chunk.set_size) == len(chunk.set_minute) or chunk.set_size.sum() != len(chunk.variable):
            raise ValueError("a chunk's set_size must have one entry per set and add up to its events")
        if chunk.set_count.min(initial=1) < 1 or chunk.set_size.min(initial=1) < 1:
            raise ValueError("every stay needs a set, every set an event")
        ends = np.concatenate([[0], np.cumsum(chunk.set_size)])
        last_set = np.cumsum(chunk.set_count)
        first_set = last_set - chunk.set_count
        self._stays.append(
            chunk.stays.assign(
                set_start=self.sets + first_set, set_count=chunk.set_count, event_count=ends[last_set] - ends[first_set]
            )
        )
        self._files["event_variable"].append(self._number(chunk.names)[chunk.variable])
        self._files["event_value"].append(chunk.value)
        self._files["set_minute"].append(chunk.set_minute)
        self._files["set_start"].append(self.events + ends[1:])
        self.sets += len(chunk.set_size)
        self.events += len(chunk.variable)

    def stays(self) -> pd.DataFrame:
        """All stays so far, in order, with `set_start`, `set_count` and `event_count` (int64)."""
        if not self._stays:
            return pd.DataFrame(columns=["stay_id", "subject_id", "set_start", "set_count", "event_count"])
        return pd.concat(self._stays, ignore_index=True)

    def _number(self, names: list[str]) -> np.ndarray:
        """The store's index of each of the chunk's names."""
        for name in names:
            self._index.setdefault(name, len(self._index))
        if len(self._index) > MAX_VARIABLES:
            raise InputError(f"more than {MAX_VARIABLES:,} different variables; is the variable column really a name?")
        self.names = list(self._index)
        return np.array([self._index[name] for name in names], dtype=np.uint16)
