"""The charts of the Compare page as plain Plotly figures: data and layout, nothing of Streamlit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dashboard import charts
from dashboard.charts import COLOURS, Figure, Look, beyond, layout, packed, y_axis
from dashboard.compare.curves import Line
from dashboard.compare.view import Ref, View
from dashboard.runs.colours import DASHES, RunStyle
from shared.drawing import POINTS_WITH_MARKERS, is_log
from shared.panels import metric_of

FEW = 8
"""Up to so many lines, the hover names all of them; beyond, the nearest."""
HEIGHT = 280
SYMBOLS = dict(zip(DASHES, ("circle", "square", "diamond", "x"), strict=True))
"""Markers of the runs that share a colour."""
AXES = {
    "step": "optimizer step",
    "epoch": "epoch",
    "time": "time since the first step ({unit})",
    "onset": "steps since the first alarm or warning",
}
UNITS = ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


def nothing(words: str, look: Look, height: int = HEIGHT) -> Figure:
    """A chart without data says why."""
    bare = layout(look, height=height)
    bare["xaxis"] = bare["yaxis"] = {"visible": False}
    note = {"text": charts.text(words), "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    bare["annotations"] = [note | {"font": {"color": COLOURS[look.dark]["note"]}}]
    return {"data": [], "layout": bare}


def overlay(lines: Sequence[Line], ref: Ref, view: View, look: Look, raw: Sequence[Line] = ()) -> Figure:
    """One metric of several runs. `raw` are the unsmoothed curves, drawn faintly behind."""
    info = metric_of(*ref)
    solid = [line.y[np.isfinite(line.y)] for line in lines]
    values = np.concatenate(solid) if solid else np.empty(0)
    if not len(values):
        return nothing("No run has a value of this", look)
    log = is_log(values, look.scale)
    per, unit = time_unit(lines) if view.x == "time" else (1, "")
    base = layout(
        look, x=AXES[view.x].format(unit=unit), y=info.unit, identity=f"{ref}:{view.key}:{log}", height=HEIGHT,
    )  # fmt: skip
    base["yaxis"] |= y_axis(values, log, ())
    base["hovermode"] = "x unified" if len(lines) <= FEW else "closest"
    base["hoverlabel"] |= {"namelength": -1}
    if view.x != "step":
        base["xaxis"] |= {"tickformat": ",.4~g", "hoverformat": ",.4~g"}
    if view.x == "onset":
        base["xaxis"]["rangemode"] = "normal"
        base["shapes"] = [_onset_line(look)]
    clipped = None if log else beyond(values, (), look)
    base["annotations"] = [clipped] if clipped else []
    data = [_trace(line, per, look, log) | {"opacity": 0.25, "hoverinfo": "skip", "hovertemplate": None} for line in raw]
    data += [_band(line, per, look, log) for line in lines if line.low is not None]
    return {"data": data + [_trace(line, per, look, log) for line in lines], "layout": base}


def time_unit(lines: Sequence[Line]) -> tuple[float, str]:
    """What seconds are divided by, and the name of that unit, for curves of this length."""
    longest = max((float(line.x[-1]) for line in lines if len(line.x)), default=0.0)
    return next((per, unit) for least, per, unit in UNITS if longest >= least)


def _onset_line(look: Look) -> dict[str, Any]:
    line = {"color": COLOURS[look.dark]["limit"], "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "y domain", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "line": line, "layer": "below"}


def stroke(style: RunStyle, look: Look, width: float = 1.6) -> dict[str, Any]:
    """How the line of a run looks, in every chart."""
    return {"color": style.colour(look.dark), "dash": style.dash, "width": width}


def _trace(line: Line, per: float, look: Look, log: bool) -> dict[str, Any]:
    y = np.where(line.y > 0, line.y, np.nan) if log else line.y
    few = len(line.x) == 1 or (len(line.x) <= POINTS_WITH_MARKERS // 2 and line.low is None)
    return {
        "type": "scatter", "mode": "lines+markers" if few else "lines", "x": packed(line.x / per), "y": packed(y),
        "name": charts.text(line.group.label), "meta": line.group.label, "line": stroke(line.group.style, look),
        "marker": {"size": 5, "color": line.group.style.colour(look.dark), "symbol": SYMBOLS[line.group.style.dash]}, "connectgaps": False,
        "hovertemplate": "%{y:,.4~g}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _band(line: Line, per: float, look: Look, log: bool) -> dict[str, Any]:
    assert line.low is not None and line.high is not None
    low = np.where(line.low > 0, line.low, np.nan) if log else line.low
    keep = np.isfinite(low) & np.isfinite(line.high)
    x = line.x[keep] / per
    colour = line.group.style.colour(look.dark).lstrip("#")
    red, green, blue = (int(colour[at : at + 2], 16) for at in (0, 2, 4))
    return {
        "type": "scatter", "mode": "lines", "fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.18)", "line": {"width": 0},
        "x": packed(np.concatenate([x, x[::-1]])), "y": packed(np.concatenate([line.high[keep], low[keep][::-1]])),
        "hoverinfo": "skip", "meta": line.group.label, "showlegend": False,
    }  # fmt: skip
