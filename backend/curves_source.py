"""A run, or a TensorBoard log, as charts in files see it (`shared.panels.Source`); of any length, in little memory."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from backend.tensorboard_logs import ScalarLog
from backend.tensorboard_places import Place
from shared.collapse import Thresholds, Verdict
from shared.decimate import decimate
from shared.drawing import Role
from shared.errors import InputError
from shared.layout import RunLayout
from shared.panels import Panel, wanted
from shared.probes import nonfinite_names
from shared.reader import JsonlTail, each_row, read_record, read_status
from shared.schema import RunInfo
from shared.series import Rows, Series, newest_of, of_column, of_rows, split_off
from shared.verdicts import VerdictLog, limits_of, nonfinite_steps
from shared.writer import warn_on_stderr

T = TypeVar("T")
KEPT = 20_000
"""Points of a curve that are kept, at least; every spike among them."""


class Thinned:
    """A curve that grows and is thinned as it does, so that its picture stays the same."""

    def __init__(self) -> None:
        self._x: list[float] = []
        self._y: list[float] = []

    def add(self, x: float, y: float) -> None:
        """One more point, to the right of the others."""
        self._x.append(x)
        self._y.append(y)
        if len(self._x) >= 4 * KEPT:
            x_kept, y_kept = decimate(*self.series, KEPT)
            self._x, self._y = x_kept.tolist(), y_kept.tolist()

    @property
    def series(self) -> Series:
        """[N] each."""
        return np.array(self._x, float), np.array(self._y, float)


@dataclass(frozen=True)
class PlainSource:
    """Curves and what is known of the run they are of."""

    curves: Mapping[Place, Series]
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    """Metric of the step log to the first step at which it was NaN or infinite."""
    wholes: Mapping[str, Series] = field(default_factory=dict)
    """Metric to its values on the whole validation split, where `curves` has those of a sample."""
    probes: Sequence[Mapping[str, Any]] = ()
    verdicts: Sequence[Verdict] = ()
    past: Sequence[Verdict] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    limits: Thresholds = Thresholds()
    """What the verdicts are found with."""
    ended: bool = False
    """Nothing more comes."""

    def config(self, group: str, option: str, default: T) -> T:
        """An option of the run, or `default`."""
        options = self.configuration.get(group)
        value = options.get(option) if isinstance(options, Mapping) else None
        return default if value is None else value

    def series(self, role: Role, name: str) -> Series:
        """Steps and values, empty where the metric was never measured."""
        return self.curves.get((role, name), (np.empty(0), np.empty(0)))

    def whole(self, name: str) -> Series:
        """Steps and values on the whole validation split, where those of `series` are of a sample."""
        return self.wholes.get(name, (np.empty(0), np.empty(0)))

    def latest(self, role: Role, name: str) -> float | None:
        """The newest value."""
        found = self.series(role, name)
        return newest_of(found, self.whole(name)) if role == "validation" else newest_of(found)

    def first_nonfinite(self, name: str) -> int | None:
        """The first step at which a metric of the step log was not finite."""
        return self.nonfinite.get(name)


def source_of_run(
    layout: RunLayout, told: Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]] = iter
) -> PlainSource:
    """A run as it is now. `told` may watch the lines of the step log go by.

    A run.json that cannot be read costs only what it says: the options.
    """
    return _with_evaluations(layout, *training_curves(told(each_row(layout.metrics))))


def recent_source(layout: RunLayout, last: int, panels: Sequence[Panel]) -> PlainSource:
    """What the charts `panels` ask of a run, from the last so many lines of its step log: fast enough to be called in training."""
    places = wanted(panels)
    curves, nonfinite = recent_curves(layout.metrics, last, [name for role, name in places if role == "training"])
    return _with_evaluations(layout, curves, nonfinite, places)


def _with_evaluations(
    layout: RunLayout, curves: dict[Place, Series], nonfinite: dict[str, int], places: Collection[Place] | None = None
) -> PlainSource:
    """The curves of the step log, those of evaluations beside them (of `places` alone, where given), and what is known of the run."""
    rows = list(each_row(layout.evaluations))
    wholes: dict[str, Series] = {}
    for role in ("probe", "validation"):
        own: Rows = [row for row in rows if row.get("kind") == role]
        found = chain.from_iterable((*row, *nonfinite_names(row)) for row in own)
        names = dict.fromkeys(found if places is None else (name for place, name in places if place == role))
        sample, whole = split_off(own)
        curves |= {(role, name): series for name in names if len((series := of_rows(sample, name))[0])}
        wholes |= {name: series for name in names if len((series := of_rows(whole, name))[0])}
    log = VerdictLog()
    for problem in filter(None, map(log.take, each_row(layout.events))):
        warn_on_stderr(f"{layout.events}: {problem}; it is left out")
    try:
        info = read_record(layout.run_json, RunInfo)
        config, limits = info.config, limits_of(info)
    except InputError:
        config, limits = {}, Thresholds()
    probes = [row for row in rows if row.get("kind") == "probe"]
    return PlainSource(
        curves, nonfinite, wholes, probes, log.verdicts(config), log.past, config, limits, read_status(layout).ended
    )


def training_curves(lines: Iterable[Mapping[str, Any]]) -> tuple[dict[Place, Series], dict[str, int]]:
    """Every metric of a step log, and where each was first not finite."""
    curves: dict[str, Thinned] = defaultdict(Thinned)
    nonfinite: dict[str, int] = {}
    for row in lines:
        step = row["step"]
        for name, value in row.items():
            if isinstance(value, float | int) and name not in ("v", "step"):
                curves[name].add(step, value)
        for name in nonfinite_names(row):
            nonfinite.setdefault(name, step)
            curves[name].add(step, np.nan)
    return {("training", name): curve.series for name, curve in curves.items()}, nonfinite


def recent_curves(path: Path, last: int, names: Iterable[str]) -> tuple[dict[Place, Series], dict[str, int]]:
    """Some metrics of the last lines of a step log, as `training_curves` has them."""
    rows = JsonlTail.of_last(path, last).read_columns()
    if not len(rows):
        return {}, {}
    steps, missing = rows["step"].astype(float), nonfinite_steps(rows)
    curves: dict[Place, Series] = {}
    for name in names:
        series = of_column(steps, rows.numbers(name) if name in rows else None, missing.get(name, ()))
        if len(series[0]):
            curves["training", name] = series
    return curves, {name: found[0] for name, found in missing.items()}


def source_of_log(
    log: ScalarLog, found: Mapping[Place, str], verdicts: Sequence[Verdict], past: Sequence[Verdict]
) -> PlainSource:
    """The scalars of a TensorBoard log at their places."""
    curves: dict[Place, Series] = {}
    nonfinite: dict[str, int] = {}
    for place, tag in found.items():
        kept = Thinned()
        for block in log.scalars[tag].blocks():
            for step, value in zip(block["step"].tolist(), block["value"].tolist(), strict=True):
                kept.add(step, value if np.isfinite(value) else np.nan)
        curves[place] = kept.series
        missing = kept.series[0][np.isnan(kept.series[1])]
        if place[0] == "training" and len(missing):
            nonfinite[place[1]] = int(missing[0])
    return PlainSource(curves, nonfinite, verdicts=verdicts, past=past)
