"""Hyperparameters against outcomes: parallel coordinates and a scatter chart, one line and one marker per run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboard import charts
from dashboard.charts import COLOURS, Look, layout
from dashboard.compare.config import differing, is_experiment, value_text
from dashboard.compare.curves import Drawn
from dashboard.compare.figures import HEIGHT, SYMBOLS, Figure, nothing, stroke
from dashboard.compare.outcomes import OF
from dashboard.formats import DASH, number

MOST_OPTIONS, MOST_OUTCOMES = 7, 3
OUTCOMES = ("auroc", "probe.active_units", "probe.mi_gauss", "probe.kl", "training.kl", "training.loss")
"""The figures at the right of the parallel coordinates, the first three that any run has."""
PARALLEL_HEIGHT = 420


@dataclass(frozen=True)
class Axis:
    """One option or figure with a value per run; None where a run has none."""

    key: str
    label: str
    values: tuple[Any, ...]

    @property
    def numeric(self) -> bool:
        """Whether all known values are numbers."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.known)

    @property
    def known(self) -> list[Any]:
        """Values that runs have, NaN left out."""
        return [
            value for value in self.values if value is not None and not (isinstance(value, float) and not math.isfinite(value))
        ]

    @property
    def log(self) -> bool:
        """Whether values span two decades or more: learning rates, weights."""
        return bool(self.known) and self.numeric and min(self.known) > 0 and max(self.known) >= 100 * min(self.known)

    @property
    def categories(self) -> list[str]:
        """The texts of a categorical axis, in alphabetical order."""
        return sorted({value_text(value) for value in self.values if value is not None})

    def places(self) -> np.ndarray:
        """Where each run lies on the axis, 0 to 1; NaN where it has no value."""
        if not self.numeric:
            steps = {text: place for place, text in enumerate(self.categories)}
            last = max(len(steps) - 1, 1)
            found = [steps[value_text(value)] / last if value is not None else math.nan for value in self.values]
            return np.array(found) if len(steps) > 1 else np.where(np.isfinite(found), 0.5, math.nan)
        shown = np.array([math.nan if value is None or not math.isfinite(value) else value for value in self.values], float)
        shown = np.log10(shown) if self.log else shown
        if not self.known:
            return shown
        low, high = np.nanmin(shown), np.nanmax(shown)
        return (shown - low) / (high - low) if high > low else np.where(np.isfinite(shown), 0.5, math.nan)

    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of what is written beside the axis."""
        if not self.known:
            return []
        if not self.numeric:
            last = max(len(self.categories) - 1, 1)
            return [(place / last if len(self.categories) > 1 else 0.5, text) for place, text in enumerate(self.categories)]
        low, high = min(self.known), max(self.known)
        if low == high:
            return [(0.5, number(low))]
        middle = math.sqrt(low * high) if self.log else (low + high) / 2
        return [(0.0, number(low)), (0.5, number(middle, 3)), (1.0, number(high))]


def option_axes(runs: Sequence[Drawn]) -> list[Axis]:
    """The options that vary between the runs, as axes."""
    found = differing([run.snapshot for run in runs])
    return [
        Axis(name, name, tuple(None if value == DASH else "none" if value is None else value for value in values))
        for name, values in found.items()
        if is_experiment(name)
    ]


def outcome_axis(key: str, runs: Sequence[Drawn]) -> Axis:
    """A figure of each run, as an axis."""
    return Axis(key, OF[key].label_of([run.snapshot for run in runs]), tuple(OF[key].read(run.snapshot) for run in runs))


def parallel_axes(runs: Sequence[Drawn]) -> tuple[list[Axis], list[str]]:
    """The axes of the parallel coordinates, options first; and the names of options for which there was no room."""
    options = option_axes(runs)
    outcomes = [axis for axis in (outcome_axis(key, runs) for key in OUTCOMES) if axis.known][:MOST_OUTCOMES]
    return options[:MOST_OPTIONS] + outcomes, [axis.label for axis in options[MOST_OPTIONS:]]


def parallel(runs: Sequence[Drawn], axes: Sequence[Axis], look: Look) -> Figure:
    """One line per run through its options and outcomes."""
    if len(axes) < 2 or len(runs) < 2:
        return nothing("Two runs that differ in an option are needed", look, PARALLEL_HEIGHT)
    colours = COLOURS[look.dark]
    places = np.stack([axis.places() for axis in axes])
    base = layout(look, identity=",".join(axis.key for axis in axes), height=PARALLEL_HEIGHT)
    base["hovermode"], base["hoverlabel"] = "closest", base["hoverlabel"] | {"namelength": -1, "align": "left"}
    base["margin"] = {"l": 60, "r": 60, "t": 64, "b": 16}
    base["dragmode"] = "select"
    base["xaxis"] = {"range": [-0.15, len(axes) - 0.85], "visible": False, "fixedrange": True}
    base["yaxis"] = {"range": [-0.06, 1.06], "visible": False, "fixedrange": True}
    line = {"color": colours["note"], "width": 1}
    base["shapes"] = [
        {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": line, "layer": "below"}
        for place in range(len(axes))
    ]
    base["annotations"] = [note for place, axis in enumerate(axes) for note in _axis_words(place, axis, look)]
    data = []
    for at, run in enumerate(runs):
        told = "<br>".join(f"{charts.text(axis.label)}: {charts.text(_text(axis.values[at]))}" for axis in axes)
        data.append({
            "type": "scatter", "mode": "lines+markers", "x": list(range(len(axes))), "y": _jsonable(places[:, at]),
            "name": charts.text(run.name), "meta": run.name, "customdata": [run.name] * len(axes), "text": [told] * len(axes),
            "line": stroke(run.style, look, 1.8),
            "marker": {"size": 6, "color": run.style.colour(look.dark)},
            "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
        })  # fmt: skip
    return {"data": data, "layout": base}


def _axis_words(place: int, axis: Axis, look: Look) -> list[dict[str, Any]]:
    colours = COLOURS[look.dark]
    group, _, name = axis.label.rpartition(".") if axis.key not in OF else ("", "", axis.label)
    head = f"<b>{charts.text(name)}</b>" if axis.key not in OF else f"<b>{charts.text(name).replace(', ', '<br>')}</b>"
    under = [charts.text(group)] if group else []
    words = "<br>".join([*under, head, *(["log scale"] if axis.log else [])])
    notes = [{"text": words, "x": place, "y": 1.05, "yanchor": "bottom", "font": {"size": 11, "color": colours["text"]}}]
    beside = {
        "xanchor": "left",
        "xshift": 5,
        "font": {"size": 10.5, "color": colours["note"]},
        "bgcolor": colours["paper"],
        "opacity": 0.85,
    }
    notes += [{"text": charts.text(text), "x": place, "y": at, **beside} for at, text in axis.ticks()]
    return [note | {"showarrow": False, "xref": "x", "yref": "y"} for note in notes]


def _text(value: Any) -> str:
    return DASH if value is None else number(value) if isinstance(value, float) else value_text(value)


def _jsonable(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def scatter(runs: Sequence[Drawn], across: Axis, up: Axis, look: Look) -> Figure:
    """One marker per run: an option or a figure against an outcome. Runs without either are not in it."""
    known = [at for at in range(len(runs)) if _is_known(across.values[at]) and _is_known(up.values[at])]
    if not known:
        return nothing("No run has both of these", look, HEIGHT + 100)
    base = layout(
        look, x=charts.text(across.label), y=charts.text(up.label), identity=f"{across.key}:{up.key}", height=HEIGHT + 100
    )
    base["hovermode"], base["hoverlabel"] = "closest", base["hoverlabel"] | {"namelength": -1}
    base["dragmode"] = "select"
    base["xaxis"] = {**base["xaxis"], "showgrid": True, "rangemode": "normal", "tickformat": ",.4~g", "showspikes": False}
    if not across.numeric:
        names = [charts.text(one) for one in across.categories]
        base["xaxis"] |= {"type": "category", "categoryorder": "array", "categoryarray": names, "tickformat": ""}
    elif across.log:
        base["xaxis"] |= {"type": "log"}
    data = []
    for at in known:
        run, x, y = runs[at], across.values[at], up.values[at]
        told = f"{charts.text(across.label)}: {charts.text(_text(x))}<br>{charts.text(up.label)}: {_text(y)}"
        data.append({
            "type": "scatter", "mode": "markers", "x": [x if across.numeric else charts.text(value_text(x))], "y": [y],
            "name": charts.text(run.name), "meta": run.name, "customdata": [run.name], "text": [told],
            "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
            "marker": {"size": 11, "color": run.style.colour(look.dark), "symbol": SYMBOLS[run.style.dash],
                       "line": {"width": 1, "color": COLOURS[look.dark]["paper"]}},
        })  # fmt: skip
    return {"data": data, "layout": base}


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
