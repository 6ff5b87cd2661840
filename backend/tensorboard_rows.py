"""From the values of many tags to rows, one a step, without holding them all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from backend.tensorboard_scalars import RECORD, Scalars


@dataclass(frozen=True)
class Table:
    """Some consecutive rows: R steps, N names."""

    steps: np.ndarray
    """[R], rising"""
    walls: np.ndarray
    """When the last of each row was logged, in seconds since 1970, [R]"""
    values: np.ndarray
    """[R, N]"""
    present: np.ndarray
    """Whether there is a value, [R, N]; a value that is there may be NaN."""
    names: tuple[str, ...]

    def rows(self) -> Iterator[tuple[int, float, dict[str, float]]]:
        """(step, wall time, values by name), row by row."""
        for i, (step, wall) in enumerate(zip(self.steps.tolist(), self.walls.tolist(), strict=True)):
            there = self.present[i].nonzero()[0]
            yield (
                step,
                wall,
                {self.names[k]: value for k, value in zip(there.tolist(), self.values[i, there].tolist(), strict=True)},
            )


class _Stream:
    """The records of one tag, taken from the front."""

    def __init__(self, scalars: Scalars, after: int) -> None:
        self._blocks = scalars.blocks(after)
        self.block = next(self._blocks, None)

    def take(self, last: int) -> np.ndarray:
        """The records up to the step `last`, as far as the block in hand goes."""
        if self.block is None:
            return np.empty(0, RECORD)
        count = int(np.searchsorted(self.block["step"], last, side="right"))
        taken, rest = self.block[:count], self.block[count:]
        self.block = rest if len(rest) else next(self._blocks, None)
        return taken


def merged(series: Mapping[str, Scalars], after: int = -1) -> Iterator[Table]:
    """All values with steps beyond `after`, in step order; a few thousand rows at a time are in memory."""
    names = tuple(series)
    streams = [_Stream(series[name], after) for name in names]
    while open_blocks := [stream.block for stream in streams if stream.block is not None]:
        last = min(int(block["step"][-1]) for block in open_blocks)
        parts = [stream.take(last) for stream in streams]
        steps = np.unique(np.concatenate([part["step"] for part in parts]))
        values, walls = np.full((len(steps), len(names)), np.nan), np.zeros(len(steps))
        present = np.zeros(values.shape, bool)
        for k, part in enumerate(parts):
            rows = np.searchsorted(steps, part["step"])
            values[rows, k], present[rows, k] = part["value"], True
            walls[rows] = np.maximum(walls[rows], part["wall"])
        yield Table(steps, walls, values, present, names)
