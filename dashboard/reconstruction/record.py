"""One patient's record: observed against reconstructed over time, and which variables were expected. Figures only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import charts
from dashboard.charts import COLOURS, Look, blank, layout
from dashboard.reconstruction.events import Events
from dashboard.reconstruction.figures import empty, faint, plain
from dashboard.reconstruction.presence import Presence

ROW = 120
"""Height of one variable, in pixels."""
MOST_ROWS = 60
"""Variables of one presence map: those that this patient's sets hold, or were expected to hold, most."""
TITLE = 16
"""Letters of a unit beside an axis: codes such as `1: male, 0: female` are left to the table."""


def of_patient(events: Events, stay: str) -> pd.DataFrame:
    """Events of one stay in order of time."""
    own = events.frame[events.frame["stay"] == stay]
    return own.sort_values("hour", kind="stable")


def record(own: pd.DataFrame, events: Events, variables: Sequence[str], look: Look) -> go.Figure:
    """Each variable in a row of its own over shared hours: observed, reconstructed, and bands of one and two predicted std."""
    shown = [name for name in variables if (own["variable"] == name).any()]
    if not shown:
        figure = plain(look, x="hours since admission", y="", identity="record")
        return empty(figure, "None of these variables was measured here", look)
    height = 70 + ROW * len(shown)
    whole = layout(look, x="", identity=f"record:{'|'.join(shown)}", legend=True, height=height)
    x_axis, y_axis = whole.pop("xaxis"), whole.pop("yaxis")
    x_axis |= {"tickformat": ",.6~g", "hoverformat": ",.2f", "showgrid": True, "rangemode": "normal"}
    gap = min(0.1, 18 / height)
    share = (1 - gap * (len(shown) - 1)) / len(shown)
    traces: list[dict[str, Any]] = []
    for row, name in enumerate(shown):
        x, y, last, top = f"x{row + 1}", f"y{row + 1}", row == len(shown) - 1, 1 - row * (share + gap)
        titles = [
            {**axis["title"], "text": text}
            for axis, text in ((x_axis, "hours since admission" if last else ""), (y_axis, _title(name, events)))
        ]
        whole[f"xaxis{row + 1}"] = {**x_axis, "anchor": y, "showticklabels": last, "title": titles[0]} | (
            {"matches": "x"} if row else {}
        )
        whole[f"yaxis{row + 1}"] = {
            **y_axis,
            "anchor": x,
            "domain": [max(top - share, 0), top],
            "nticks": 4,
            "title": titles[1],
        }
        traces += [{**trace, "xaxis": x, "yaxis": y} for trace in _traces(own[own["variable"] == name], look)]
    named: set[str] = set()
    for trace in traces:
        trace["showlegend"] = trace["name"] not in named
        named.add(trace["name"])
    return blank({**whole, "hovermode": "x"}, traces)


def _title(name: str, events: Events) -> str:
    unit = events.unit(name)
    return f"<b>{charts.text(name)}</b><br>{charts.text(unit) if len(unit) <= TITLE else ''}"


def _traces(own: pd.DataFrame, look: Look) -> list[dict[str, Any]]:
    """Of one variable, the bands behind the points."""
    colours = COLOURS[look.dark]
    hour, value, spread = (own[name].to_numpy() for name in ("hour", "reconstructed", "std"))
    found: list[dict[str, Any]] = []
    if np.isfinite(spread).any():
        found += [
            _band(hour, value, times * spread, faint(colours["probe"], shade), times) for times, shade in ((2, 0.13), (1, 0.22))
        ]
    if np.isfinite(value).any():
        line = {"color": colours["probe"], "width": 1.6}
        marker = {"size": 4, "symbol": "diamond", "color": colours["probe"]}
        found.append({"x": hour, "y": value, "name": "reconstructed", "mode": "lines+markers", "line": line, "marker": marker})
    circle = {"size": 7, "symbol": "circle-open", "color": colours["training"], "line": {"width": 1.8}}
    found.append({"x": hour, "y": own["observed"].to_numpy(), "name": "observed", "mode": "markers", "marker": circle})
    return [{"type": "scatter", "legendgroup": trace["name"], **trace} for trace in found]


def _band(hour: np.ndarray, value: np.ndarray, half: np.ndarray, colour: str, times: int) -> dict[str, Any]:
    """A filled band; a single value, which has no width, gets a bar."""
    shared = {"hoverinfo": "skip", "name": f"± {times} std"}
    if len(hour) == 1:
        bar = {"type": "data", "array": half, "color": colour, "thickness": 9, "width": 0}
        return shared | {"x": hour, "y": value, "error_y": bar, "mode": "markers", "marker": {"size": 0.1, "color": colour}}
    there_and_back = {"x": np.concatenate([hour, hour[::-1]]), "y": np.concatenate([value + half, (value - half)[::-1]])}
    return (
        shared
        | there_and_back
        | {"fill": "toself", "mode": "lines", "line": {"width": 0, "color": colour}, "fillcolor": colour}
    )


def presence_map(own: Presence, look: Look) -> go.Figure:
    """Variables by sets of one patient: predicted probability as shade, and a dot where the variable did occur."""
    kept = np.argsort(-(own.occurred.sum(axis=0) + own.probability.sum(axis=0)), kind="stable")[:MOST_ROWS][::-1]
    height = 90 + 15 * max(len(kept), 8)
    figure = plain(look, x="hours since admission", y="", identity="presence", height=height)
    if not len(own.hour):
        return empty(figure, "This snapshot holds no set of this patient", look)
    names = [charts.text(own.names[at]) for at in kept]
    hour, probability, occurred = _merged(own)
    edges, columns = _columns(hour, probability[:, kept].astype(float))
    colours = COLOURS[look.dark]
    figure.add_trace(
        go.Heatmap(
            x=edges, y=names, z=np.round(columns.T, 3), zmin=0, zmax=1, hoverongaps=False, colorbar=_shades(),
            colorscale=[[0, faint(colours["training"], 0.0)], [1, faint(colours["training"], 0.85)]],
            hovertemplate="%{y} at %{x:.1f} h: expected with %{z:.1%}<extra></extra>",
        )
    )  # fmt: skip
    at_set, at_name = np.nonzero(occurred[:, kept])
    figure.add_trace(
        go.Scatter(
            x=hour[at_set], y=[names[at] for at in at_name], mode="markers", showlegend=False, cliponaxis=False,
            marker={"size": 6, "color": colours["probe"], "line": {"width": 1, "color": colours["paper"]}},
            customdata=probability[at_set, kept[at_name]],
            hovertemplate="%{y} measured at %{x:.1f} h<br>expected with %{customdata:.1%}<extra></extra>",
        )
    )  # fmt: skip
    rows = {"range": [-0.6, len(names) - 0.4], "nticks": len(names), "dtick": 1, "tickfont": {"size": 10}, "showgrid": False}
    return figure.update_yaxes(type="category", tickformat=None, **rows).update_xaxes(showgrid=False)


def _shades() -> dict[str, Any]:
    title = {"text": "P(occurs)", "side": "right", "font": {"size": 11}}
    return {"title": title, "thickness": 10, "outlinewidth": 0, "tickformat": ".0%"}


def _merged(own: Presence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sets of one moment as one column: expected as in the surest, occurred if in any."""
    hour, first = np.unique(own.hour, return_index=True)
    return hour, np.maximum.reduceat(own.probability, first, axis=0), np.logical_or.reduceat(own.occurred, first, axis=0)


def _columns(hour: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Borders and values of the columns: halfway between the sets, at most an hour to each side; longer gaps are left empty."""
    half = np.minimum(np.diff(hour) / 2, 1.0) if len(hour) > 1 else np.array([0.5])
    start, end = hour - np.concatenate([half[:1], half])[: len(hour)], hour + np.concatenate([half, half[-1:]])[: len(hour)]
    edges, columns = [start[0]], []
    for at in range(len(hour)):
        if start[at] > edges[-1] + 1e-6:
            edges.append(start[at])
            columns.append(np.full(probability.shape[1], np.nan))
        edges.append(end[at])
        columns.append(probability[at])
    return np.array(edges), np.array(columns)
