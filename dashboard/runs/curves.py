"""The curves of a log in bounded memory, whatever its length: what a chart draws, and means for smoothing.

A run of ten days has millions of steps; a chart has two thousand pixels. Up to `MOST_POINTS` values are all kept. Beyond, each
curve keeps the smallest and the largest value of every stretch of steps: its picture is the same, every spike is there. What a
reader zooms into is read from the log again (`dashboard.live.windows`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.columns import Columns
from shared.decimate import extremes
from shared.verdicts import nonfinite_steps

MOST_POINTS = 2**17
MOST_MEANS = 2**13


class Growing:
    """Numbers that grow at the end. Views handed out stay valid: only what lies behind them is written."""

    def __init__(self) -> None:
        self.size = 0
        self._array = np.empty(64)

    def extend(self, values: np.ndarray) -> None:
        """Add numbers."""
        end = self.size + len(values)
        if end > len(self._array):
            self._array = np.concatenate([self._array[: self.size], np.empty(2 * end - self.size)])
        self._array[self.size : end] = values
        self.size = end

    def view(self) -> np.ndarray:
        """What there is now, read-only."""
        view = self._array[: self.size].view()
        view.flags.writeable = False
        return view


@dataclass(frozen=True)
class SeriesView:
    """One curve at one moment: steps and values, [N] each; NaN where the value was not finite. Not to be changed."""

    x: np.ndarray
    y: np.ndarray
    width: float
    """Steps of a stretch of which only the smallest and the largest value are kept; 0: every value is here."""
    kept: tuple[np.ndarray, np.ndarray] | None = None
    """The means, where they cannot be worked out from the values any more."""

    @cached_property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean step and mean value of equal stretches, [M] each, for smoothing."""
        if self.kept is not None:
            return self.kept
        means = Means()
        means.extend(self.x, self.y)
        return means.view()

    def between(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """The part with low <= x <= high, and one more point on either side, so that lines run on to the edge."""
        first = max(int(np.searchsorted(self.x, low, "left")) - 1, 0)
        last = int(np.searchsorted(self.x, high, "right")) + 1
        return self.x[first:last], self.y[first:last]


class Series:
    """One curve as it grows."""

    def __init__(self) -> None:
        self.width = 0.0
        self._x, self._y = Growing(), Growing()
        self._means = Means()

    def extend(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add values, [n] each; steps ascend."""
        if not len(x):
            return
        if self.width:
            self._means.extend(x, y)
        if self.width and len(x) > 2:
            keep = extremes(x, y, max(int((x[-1] - x[0]) / self.width), 1))
            keep[-1] = True
            x, y = x[keep], y[keep]
        self._x.extend(x)
        self._y.extend(y)
        if self._x.size > MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        x, y = self._x.view(), self._y.view()
        if not self.width:  # until now the values told the means themselves
            self._means.extend(x, y)
        stretches = MOST_POINTS // 4
        keep = extremes(x, y, stretches)
        keep[[0, -1]] = True
        self.width = float(x[-1] - x[0]) / stretches
        self._x, self._y = Growing(), Growing()
        self._x.extend(x[keep])
        self._y.extend(y[keep])

    @property
    def bytes(self) -> int:
        """Memory that the values take."""
        return 16 * self._x.size

    def view(self) -> SeriesView:
        """The curve now."""
        return SeriesView(self._x.view(), self._y.view(), self.width, self._means.view() if self.width else None)


class Means:
    """Mean of each stretch of steps; stretches double in width when there are more than `MOST_MEANS`."""

    def __init__(self) -> None:
        self._width = 1.0
        self._sums = np.empty((0, 4))
        """Of each stretch: its number, how many values, the sum of their steps, the sum of the values."""

    def extend(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add values; those that are not finite do not count."""
        solid = np.isfinite(y)
        x, y = x[solid], y[solid]
        if not len(x):
            return
        new = _summed(np.stack([x // self._width, np.ones(len(x)), x, y], axis=1))
        both = np.concatenate([self._sums[-1:], new])
        self._sums = np.concatenate([self._sums[:-1], _summed(both)])
        while len(self._sums) > MOST_MEANS:
            self._width *= 2
            self._sums = _summed(np.column_stack([self._sums[:, 0] // 2, self._sums[:, 1:]]))

    def view(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean step and mean value of each stretch."""
        count = self._sums[:, 1]
        return self._sums[:, 2] / count, self._sums[:, 3] / count


def _summed(rows: np.ndarray) -> np.ndarray:
    """Rows of one stretch, which follow one another, made one."""
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=np.nan) != 0)
    return np.column_stack([rows[starts, 0], np.add.reduceat(rows[:, 1:], starts)])


@dataclass
class NonFinite:
    """Where one metric was NaN or infinite."""

    first: int
    last: int


class Curves:
    """All curves of a step log, by metric; with `stays_per_s` and `wait_share`, which follow from two of them each."""

    def __init__(self) -> None:
        self.rows = 0
        self.last_step: int | None = None
        self.nonfinite: dict[str, NonFinite] = {}
        self._series: dict[str, Series] = {}

    def extend(self, new: Columns) -> None:
        """Add rows of the log; a metric that a row lacks, or that is no number, has no value there."""
        if not len(new):
            return
        steps = new["step"].astype(float)
        bad = nonfinite_steps(new)
        for name, at in bad.items():
            known = self.nonfinite.get(name)
            self.nonfinite[name] = NonFinite(known.first if known else at[0], at[-1])
        for name in dict.fromkeys([*new.arrays, *bad]):
            if name not in ("step", "v", "nonfinite"):
                self._add(name, steps, new.numbers(name), bad.get(name))
        if "stays" in new and "step_s" in new:
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = new.numbers("stays") / new.numbers("step_s")
            self._add("stays_per_s", steps, np.where(np.isinf(rate), np.nan, rate))
        if "wait_s" in new and "step_s" in new:
            with np.errstate(divide="ignore", invalid="ignore"):
                share = new.numbers("wait_s") / new.numbers("step_s")
            self._add("wait_share", steps, np.where(np.isinf(share), np.nan, share))
        self.rows += len(new)
        self.last_step = int(steps[-1])

    def _add(self, name: str, steps: np.ndarray, values: np.ndarray, bad: Sequence[int] | None = None) -> None:
        keep = np.isfinite(values)
        if bad:
            keep |= np.isin(steps, bad)
        if keep.any():
            self._series.setdefault(name, Series()).extend(steps[keep], values[keep])

    @property
    def bytes(self) -> int:
        """Memory that the values take."""
        return sum(series.bytes for series in self._series.values())

    def views(self) -> Mapping[str, SeriesView]:
        """Metric to its curve now."""
        return {name: series.view() for name, series in self._series.items()}
