"""Curves of several runs on one axis: aligned, smoothed, thinned, and seeds joined to a mean and a band."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.compare.view import Alignment, Grouping, Ref, View
from dashboard.runs.colours import RunStyle
from dashboard.runs.loading import Snapshot
from shared.decimate import decimate

POINTS_IN_ALL = 10_000
"""Points of one chart, shared among its curves: what a browser draws without being felt."""
FEWEST_POINTS, MOST_POINTS = 200, 2000
GRID = 200
"""Stretches of the common grid on which seeds are averaged."""
MEMBER_POINTS = 20 * GRID
"""Means that are kept of each seed: many to a stretch of the grid, wherever it begins."""
Clock = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Drawn:
    """One run with all that is needed to draw it."""

    snapshot: Snapshot
    style: RunStyle

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.snapshot.status.name


@dataclass(frozen=True)
class Group:
    """Runs that are one experiment: alone, or repeated with other seeds. Drawn in the style of its first member."""

    label: str
    members: tuple[Drawn, ...]

    @property
    def style(self) -> RunStyle:
        """Of the first member."""
        return self.members[0].style


@dataclass(frozen=True)
class Line:
    """One curve of a chart, [N] each; `low` and `high` bound the band of a group of seeds."""

    group: Group
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    present: int = 1
    """Members that have this metric."""


def onset(snapshot: Snapshot) -> int | None:
    """The first step of the first alarm or warning, whether it still holds or not; None where there is none."""
    began = [
        verdict.began for verdict in (*snapshot.verdicts, *snapshot.past)
        if verdict.began is not None and verdict.severity in ("alarm", "warning")
    ]  # fmt: skip
    return min(began, default=None)


def clock(snapshot: Snapshot, alignment: Alignment) -> Clock | str:
    """From optimizer steps to the chosen axis, or why this run has no place on it."""
    if alignment == "step":
        return lambda steps: steps
    if alignment == "onset":
        first = onset(snapshot)
        return "no alarm or warning" if first is None else lambda steps: steps - first
    if alignment == "epoch":
        return _interpolated(*snapshot.series("training", "epoch")) or "no epochs in its log"
    return _interpolated(*elapsed(snapshot)) or "no times in its log"


def elapsed(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """Steps and seconds since the first step: by the clock, pauses included, or where the log has none, the sum of step times."""
    steps, times = snapshot.series("training", "time")
    if np.isfinite(times).any():
        return steps, times - times[np.isfinite(times)][0]
    steps, seconds = unbiased(snapshot, ("training", "step_s"))
    known = np.isfinite(seconds)
    steps, seconds = steps[known], seconds[known]
    if not len(steps):
        return steps, seconds
    found = snapshot.training["step_s"]
    if found.width:  # means lie inside their stretches: on with the outer ones to the ends of the log
        steps, seconds = (
            np.concatenate([found.x[:1], steps, found.x[-1:]]),
            np.concatenate([seconds[:1], seconds, seconds[-1:]]),
        )
    return steps, np.cumsum(seconds * np.diff(steps, prepend=steps[0] - 1))


def unbiased(snapshot: Snapshot, ref: Ref) -> tuple[np.ndarray, np.ndarray]:
    """A curve to reckon with: all values, or the means of short stretches where memory holds only smallest and largest values."""
    found = snapshot.training.get(ref[1]) if ref[0] == "training" else None
    return found.means if found is not None and found.width > 0 else snapshot.series(*ref)


def has_clock_times(snapshot: Snapshot) -> bool:
    """Whether the log tells the time of each step."""
    return bool(len(snapshot.series("training", "time")[0]))


def _interpolated(steps: np.ndarray, places: np.ndarray) -> Clock | None:
    known = np.isfinite(places)
    steps, places = steps[known], places[known]
    return (lambda asked: np.interp(asked, steps, places)) if len(steps) else None


def smoothed(steps: np.ndarray, values: np.ndarray, span: float) -> np.ndarray:
    """Moving average whose weights fall to 1/e over `span` steps, however the steps are spaced; a gap stays a gap."""
    if span <= 0 or len(values) < 2:
        return values
    import pandas as pd  # takes a quarter of a second; most charts are not smoothed

    times = pd.Series(pd.to_datetime((steps * 1000).astype(np.int64), unit="us"))
    halflife = f"{math.log(2) * span * 1000:.0f}us"
    averaged = pd.Series(values).ewm(halflife=halflife, times=times).mean().to_numpy()  # type: ignore[arg-type]
    return np.where(np.isfinite(values), averaged, np.nan)


def curve(run: Drawn, ref: Ref, view: View, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a metric of one run is drawn; empty where it was not measured, or the run has no place on the axis."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        reckoned = unbiased(run.snapshot, ref) if view.smooth else run.snapshot.series(*ref)
        return decimate(*_placed(run, view, *reckoned), points)

    return run.snapshot.once(("compare", ref, view.x, view.smooth, points), make)


def member(run: Drawn, ref: Ref, view: View) -> tuple[np.ndarray, np.ndarray]:
    """The same curve to be averaged with others: what is too long is thinned to means, which a spike does not bend."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        x, y = _placed(run, view, *unbiased(run.snapshot, ref))
        if len(x) <= 2 * MEMBER_POINTS:
            return x, y
        edges = np.linspace(x[0], x[-1], MEMBER_POINTS + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        return middles, _on_grid(x, y, middles, edges)

    return run.snapshot.once(("compare member", ref, view.x, view.smooth), make)


def _placed(run: Drawn, view: View, steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = clock(run.snapshot, view.x)
    if isinstance(place, str) or not len(steps):
        return np.empty(0), np.empty(0)
    return place(steps), smoothed(steps, values, view.smooth)


def lines(groups: Sequence[Group], ref: Ref, view: View) -> list[Line]:
    """The curves of one metric; groups without it are left out."""
    points = min(max(POINTS_IN_ALL // max(len(groups), 1), FEWEST_POINTS), MOST_POINTS)
    found = [_line(group, ref, view, points) for group in groups]
    return [line for line in found if line is not None]


def _line(group: Group, ref: Ref, view: View, points: int) -> Line | None:
    if len(group.members) == 1 or view.group == "off":
        x, y = curve(group.members[0], ref, view, points)
        return Line(group, x, y) if len(x) else None
    curves = [(x, y) for x, y in (member(run, ref, view) for run in group.members) if len(x)]
    if not curves:
        return None
    return averaged(group, curves, view.group)


def averaged(group: Group, curves: Sequence[tuple[np.ndarray, np.ndarray]], grouping: Grouping) -> Line | None:
    """Mean and band of several curves where all have data; None where they nowhere overlap.

    On a common grid of stretches: the mean of what a curve has in a stretch, interpolated where it has fewer values than that.
    """
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if low > high:
        return None
    cells = min(GRID, max(len(x) for x, _ in curves))
    edges = np.linspace(low, high, cells + 1)
    grid = (edges[:-1] + edges[1:]) / 2 if high > low else np.array([low])
    values = np.stack([_on_grid(x, y, grid, edges) for x, y in curves])
    mean = values.mean(axis=0)
    if grouping == "sd":
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(grid))
        return Line(group, grid, mean, mean - spread, mean + spread, len(values))
    return Line(group, grid, mean, values.min(axis=0), values.max(axis=0), len(values))


def _on_grid(x: np.ndarray, y: np.ndarray, grid: np.ndarray, edges: np.ndarray) -> np.ndarray:
    if len(x) < 2 * len(grid):
        return np.interp(grid, x, y)
    inside = (x >= edges[0]) & (x <= edges[-1]) & np.isfinite(y)
    cell = np.clip(np.searchsorted(edges, x[inside], "right") - 1, 0, len(grid) - 1)
    count = np.bincount(cell, minlength=len(grid))
    total = np.bincount(cell, weights=y[inside], minlength=len(grid))
    found = np.full(len(grid), np.nan)
    np.divide(total, count, out=found, where=count > 0)
    return found


def left_out(runs: Sequence[Drawn], alignment: Alignment) -> Mapping[str, str]:
    """Runs that have no place on the chosen axis, with the reason."""
    reasons = {run.name: clock(run.snapshot, alignment) for run in runs}
    return {name: reason for name, reason in reasons.items() if isinstance(reason, str)}
