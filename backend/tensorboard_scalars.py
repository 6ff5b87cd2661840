"""The values of one tag, in the order of their steps. A long one lies in a temporary file: a log may be larger than memory."""

from array import array
from collections.abc import Iterator, Mapping
from tempfile import SpooledTemporaryFile

import numpy as np

RECORD = np.dtype([("step", "<i8"), ("wall", "<f8"), ("value", "<f8")])
"""`wall` is in seconds since 1970."""
CHUNK = 8192
SPILL = 32 * CHUNK * RECORD.itemsize // 8
"""Bytes of one tag that stay in memory."""


class Scalars(Mapping[int, float]):
    """Step to value, of one tag.

    A step that is logged again takes the newer value. What a later file logs from some step on takes the place of all that
    was there from that step on: the training was resumed.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=SPILL)  # noqa: SIM115 - open as long as the values are needed
        self._kept = 0
        self._last = -1
        self._resumed = False
        self._lowest: int | None = None
        self._steps, self._walls, self._values = array("q"), array("d"), array("d")

    def add(self, step: int, wall: float, value: float) -> None:
        """Take in one value."""
        self._steps.append(step)
        self._walls.append(wall)
        self._values.append(value)
        if len(self._steps) >= CHUNK:
            self._settle()

    def next_file(self) -> None:
        """What comes now is from a later file."""
        self._settle()
        self._resumed = True

    def _settle(self) -> None:
        if not self._steps:
            return
        chunk = np.empty(len(self._steps), RECORD)
        chunk["step"], chunk["wall"], chunk["value"] = self._steps, self._walls, self._values
        self._steps, self._walls, self._values = array("q"), array("d"), array("d")
        chunk = _in_order(chunk)
        self._lowest = min(int(chunk["step"][0]), self._lowest if self._lowest is not None else np.iinfo(np.int64).max)
        if self._kept and chunk["step"][0] <= self._last:
            place = self._place(int(chunk["step"][0]))
            if not self._resumed:
                chunk = _in_order(np.concatenate([self._read(place, self._kept), chunk]))
            self._kept = place
            self._file.truncate(place * RECORD.itemsize)
        self._file.seek(self._kept * RECORD.itemsize)
        self._file.write(chunk.tobytes())
        self._kept += len(chunk)
        self._last, self._resumed = int(chunk["step"][-1]), False

    def _read(self, first: int, last: int) -> np.ndarray:
        self._file.seek(first * RECORD.itemsize)
        return np.frombuffer(self._file.read((last - first) * RECORD.itemsize), RECORD)

    def _place(self, step: int) -> int:
        """Number of kept records before `step`."""
        low, high = 0, self._kept
        while low < high:
            middle = (low + high) // 2
            if self._read(middle, middle + 1)["step"][0] < step:
                low = middle + 1
            else:
                high = middle
        return low

    def blocks(self, after: int = -1) -> Iterator[np.ndarray]:
        """The records with steps beyond `after`, in order, up to 8,192 at a time: arrays of `RECORD`."""
        self._settle()
        for first in range(self._place(after + 1), self._kept, CHUNK):
            yield self._read(first, min(first + CHUNK, self._kept))

    def whole(self) -> np.ndarray:
        """All records, [N] of `RECORD`."""
        self._settle()
        return self._read(0, self._kept)

    def wall_at(self, step: int) -> float | None:
        """When the value of `step`, or of the last step before it, was logged; None before the first."""
        self._settle()
        place = self._place(step + 1)
        return float(self._read(place - 1, place)["wall"][0]) if place else None

    def lowest_new(self) -> int | None:
        """The lowest step for which a value was taken in since this was asked last; None where there was none."""
        self._settle()
        lowest, self._lowest = self._lowest, None
        return lowest

    @property
    def last_step(self) -> int:
        """-1 where there is nothing."""
        self._settle()
        return self._last

    @property
    def last(self) -> float:
        """The value of the last step."""
        return self[self.last_step]

    def __len__(self) -> int:
        self._settle()
        return self._kept

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks():
            yield from block["step"].tolist()

    def __getitem__(self, step: int) -> float:
        self._settle()
        place = self._place(step)
        found = self._read(place, min(place + 1, self._kept))
        if not len(found) or found["step"][0] != step:
            raise KeyError(step)
        return float(found["value"][0])


def _in_order(chunk: np.ndarray) -> np.ndarray:
    """Sorted by step, the last of each."""
    steps = chunk["step"]
    if (steps[1:] > steps[:-1]).all():
        return chunk
    chunk = chunk[np.argsort(steps, kind="stable")]
    return chunk[np.append(chunk["step"][1:] != chunk["step"][:-1], True)]
