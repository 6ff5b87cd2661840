"""The charts of the Live page as Plotly figures. What belongs into each is said in `shared.panels`, for pictures in files too."""

from dataclasses import dataclass, replace

from dashboard.charts import Curve, Figure, Look, draw
from dashboard.live.axes import AxisKind, axis_of
from dashboard.runs.snapshot import Snapshot
from shared.decimate import smooth
from shared.panels import Panel, content


@dataclass(frozen=True)
class View:
    """How the reader wants curves drawn."""

    axis: AxisKind = "step"
    span: float = 0.0
    """Time constant of the smoothing, in steps; 0: none."""


def figure(snapshot: Snapshot, panel: Panel, look: Look, view: View = View()) -> Figure:
    """The chart of one panel."""
    found, axis = content(snapshot, panel), axis_of(snapshot, view.axis)
    curves = [
        replace(curve, x=axis.at(curve.x)) for one in found.curves for curve in (smoothed(snapshot, one, view.span) if view.span else [one])
    ]  # fmt: skip
    return draw(
        curves, unit=found.unit, guides=found.guides, include=found.include, look=look, prefer=found.scale, empty=found.empty,
        marks=[replace(mark, step=float(axis.at(mark.step))) for mark in found.marks], x=axis.title, dates=axis.dates,
        identity=f"{snapshot.status.name}:{panel.metric}:{view.axis}",
    )  # fmt: skip


def smoothed(snapshot: Snapshot, curve: Curve, span: float) -> list[Curve]:
    """A curve of the step log behind its exponential moving average; evaluations are few and stay as they are."""
    role, _, metric = curve.source.partition(":")
    if role != "training" or metric not in snapshot.training:
        return [curve]
    x, y = snapshot.training[metric].means
    label = f"{curve.label}, mean of about {span:,.0f} steps"
    return [replace(curve, faint=True), replace(curve, label=label, x=x, y=smooth(x, y, span), source=f"{curve.source}:smooth")]
