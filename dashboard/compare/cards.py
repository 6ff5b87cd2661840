"""The charts of a comparison with their titles and reading guides, for the page and for the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dashboard.charts import Look
from dashboard.compare.curves import Drawn, Group, left_out, lines
from dashboard.compare.figures import FEW, Figure, overlay, time_unit
from dashboard.compare.outcomes import BETTER, OF, title
from dashboard.compare.parts import asking
from dashboard.compare.relations import Axis, option_axes, outcome_axis, parallel, parallel_axes, scatter
from dashboard.compare.view import Ref, View
from dashboard.compare.words import lacking, names_text
from dashboard.formats import number
from shared.panels import metric_of

ACTIVE = "probe.active_units"
WAYS = {"higher": "Higher is better.", "lower": "Lower is better."}


@dataclass(frozen=True)
class Made:
    """A chart, and the words around it."""

    title: str
    help: str
    note: str
    figure: Figure
    zoom: dict[str, Any] = field(default_factory=dict)
    """How a page asks for a part of it at full resolution."""


def chart(groups: Sequence[Group], ref: Ref, view: View, look: Look) -> Made:
    """One metric of all runs."""
    info = metric_of(*ref)
    found = lines(groups, ref, view)
    raw = lines(groups, ref, replace(view, smooth=0)) if view.smooth and len(groups) <= FEW and view.group == "off" else []
    placed = [group for group in groups if len(left_out(group.members, view.x)) < len(group.members)]
    note = lacking(placed, found)
    if not note and len(groups) == 1 and len(groups[0].members) == 1:
        value = groups[0].members[0].snapshot.latest(*ref)
        note = f"{number(value)} {info.unit}" if value is not None else ""
    guide = " ".join(part for part in (info.help, WAYS.get(BETTER.get(ref[1], ""), "")) if part)
    figure = overlay(found, ref, view, look, raw)
    per = time_unit(found)[0] if view.x == "time" else 1
    bands = sum(line.low is not None for line in found)
    return Made(title(ref), guide, note, figure, asking(ref, view, per, raw, bands, found) if figure["data"] else {})


def relations(runs: Sequence[Drawn], view: View, look: Look) -> tuple[Made, Made]:
    """Parallel coordinates and the scatter chart."""
    axes, more = parallel_axes(runs)
    note = f"no room for: {names_text(more)}" if more else ""
    guide = (
        "Each line is a run: it crosses every axis at the run's value. Options that differ are on the left, outcomes on the right. "
        "Lines that end high on an outcome and cross an option in one place say which values of it did well."
    )
    across, up = scatter_axes(runs, view)
    told = "Each marker is a run, in the colour and with the sign of its line."
    pair = Made("Scatter", told, "", scatter(runs, across, up, look))
    return Made("Parallel coordinates", guide, note, parallel(runs, axes, look)), pair


def scatter_axes(runs: Sequence[Drawn], view: View) -> tuple[Axis, Axis]:
    """The axes of the scatter chart: what the view asks for where it is there, else the first option that varies, or active units."""
    options = {axis.key: axis for axis in option_axes(runs)}
    up = outcome_axis(view.up if view.up in OF else "auroc", runs)
    if view.across in OF:
        return outcome_axis(view.across, runs), up
    return options.get(view.across) or next(iter(options.values()), outcome_axis(ACTIVE, runs)), up
