"""Figures of the latent map: points coloured by what the reader chose, patients followed over it and over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from dashboard import charts
from dashboard.charts import COLOURS, Look, blank, layout
from dashboard.latent.colour import Colouring
from dashboard.latent.plane import Plane
from dashboard.runs.colours import DASHES, PALETTE
from shared.latents import LatentSets

MAP_HEIGHT = 580
MOST_FOLLOWED = 5
ON_PRIOR = "All posteriors lie on the prior: the latent carries nothing"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
SCALE = {
    dark: sample_colorscale("Cividis", np.linspace(0.25 if dark else 0, 1 if dark else 0.93, 9).tolist())
    for dark in (False, True)
}
"""By whether the page is dark: without the end that would be lost on the ground"""
ROBUST = (2, 98)
"""Percentiles that the colours span: one wild value must not make all others alike."""
FOLLOWED = (5, 3, 1, 4, 2)
"""Places in the palette of those who are followed: away from the first two, which outcomes have."""


@dataclass(frozen=True)
class Trail:
    """The sets of one patient in the order of time."""

    stay: str
    xy: np.ndarray
    """[n, 2]"""
    hours: np.ndarray
    """[n]"""
    values: np.ndarray
    """[n] of the dimension shown over time"""


def trails(stays: Sequence[str], sets: LatentSets, plane: Plane, dimension: int) -> list[Trail]:
    """Of patients, as far as they have points on the map."""
    of_point = sets.stay[plane.index]
    found = []
    for stay in stays:
        at = np.flatnonzero(of_point == stay)
        at = at[np.argsort(sets.minute[plane.index[at]], kind="stable")]
        rows = plane.index[at]
        if len(at):
            found.append(Trail(stay, plane.xy[at], sets.minute[rows] / 60, sets.mu[rows, dimension]))
    return found


def map_figure(
    look: Look,
    plane: Plane,
    drawn: np.ndarray,
    sets: LatentSets,
    colouring: Colouring,
    followed: Sequence[Trail],
    identity: str,
    idle: bool = False,
) -> go.Figure:
    """A scatter of the points `drawn` (places in the plane); clicks and lasso give the patient of each. `idle`: no dimension is active."""
    colours = COLOURS[look.dark]
    figure = blank(layout(look, x=plane.axes[0], y=plane.axes[1], identity=identity, legend=True, height=MAP_HEIGHT))
    figure.update_layout(hovermode="closest", dragmode="lasso", margin={"l": 8, "r": 8, "t": 34, "b": 8})
    values, faded = colouring.values[plane.index], 0.35 if followed else 0.85
    known = np.isfinite(values)
    _add_points(figure, plane, drawn[~known[drawn]], sets, colouring,
                name=f"{charts.text(colouring.missing)} ({np.count_nonzero(~known):,})",
                marker={"size": 5, "color": colours["note"], "opacity": 0.3, "symbol": "circle-open"})  # fmt: skip
    if colouring.names is not None:
        order = sorted(colouring.names, key=lambda value: -np.count_nonzero(values == value))
        palette = PALETTE[look.dark]
        for value in order:  # the rarest is drawn last, on top
            kind = sorted(colouring.names).index(value)
            _add_points(figure, plane, drawn[values[drawn] == value], sets, colouring,
                        name=f"{charts.text(colouring.names[value])} ({np.count_nonzero(values == value):,})",
                        marker={"size": 6 if kind else 5, "color": palette[kind], "opacity": faded, "symbol": SYMBOLS[kind]})  # fmt: skip
    elif known.any():
        low, high = np.percentile(values[known], ROBUST)
        _add_points(figure, plane, drawn[known[drawn]], sets, colouring, name=f"known ({np.count_nonzero(known):,})", marker={
            "size": 5, "color": values[drawn[known[drawn]]].round(4), "opacity": faded, "colorscale": SCALE[look.dark], "cmin": low,
            "cmax": high if high > low else low + 1, "showscale": True, "colorbar": _colourbar(colouring, look)})  # fmt: skip
    for place, trail in enumerate(followed):
        _add_trail(figure, trail, place, look)
    _fit(figure, plane)
    if idle:
        figure.add_annotation(text=ON_PRIOR, xref="x domain", x=0.5, yref="y domain", y=0.97, yanchor="top", showarrow=False,
                              font={"size": 13, "color": colours["limit"]})  # fmt: skip
    return figure


def _colourbar(colouring: Colouring, look: Look) -> dict[str, Any]:
    note = COLOURS[look.dark]["note"]
    title = {"text": charts.text(colouring.title), "side": "right", "font": {"size": 11, "color": note}}
    return {"title": title, "thickness": 10, "outlinewidth": 0,
            "tickfont": {"size": 11, "color": note}, "tickformat": ",.3~g", "len": 0.9, "x": 1.0, "xpad": 6}  # fmt: skip


def _add_points(
    figure: go.Figure, plane: Plane, at: np.ndarray, sets: LatentSets, colouring: Colouring, name: str, marker: dict[str, Any]
) -> None:
    if not len(at):
        return
    rows = plane.index[at]
    values = colouring.values[rows]
    words = [
        f"patient {charts.text(stay)}<br>{minute / 60:.1f} h<br>{charts.text(f'{colouring.title}: {_said(value, colouring)}')}"
        for stay, minute, value in zip(sets.stay[rows].tolist(), sets.minute[rows].tolist(), values.tolist(), strict=True)
    ]
    figure.add_trace(go.Scatter(
        x=plane.xy[at, 0].round(4), y=plane.xy[at, 1].round(4), mode="markers", name=name, marker=marker, customdata=sets.stay[rows].tolist(),
        text=words, hovertemplate="%{text}<extra></extra>",
        selected={"marker": {"opacity": 0.95}}, unselected={"marker": {"opacity": 0.12}},
    ))  # fmt: skip


def _said(value: float, colouring: Colouring) -> str:
    if not np.isfinite(value):
        return colouring.missing
    return colouring.names[value] if colouring.names and value in colouring.names else f"{value:.4g}"


def followed_style(place: int, look: Look) -> tuple[str, str]:
    """Colour and dash of the patient followed at that place."""
    return PALETTE[look.dark][FOLLOWED[place % len(FOLLOWED)]], DASHES[place % len(DASHES)]


def _add_trail(figure: go.Figure, trail: Trail, place: int, look: Look) -> None:
    """A line in the order of time: an open circle where it begins, a square where it ends, with the patient's name."""
    colour, dash = followed_style(place, look)
    middle = ["circle"] * max(len(trail.xy) - 2, 0)
    symbols = ["circle-open", *middle, "square"] if len(trail.xy) > 1 else ["square"]
    sizes = [11, *(4 for _ in middle), 10] if len(trail.xy) > 1 else [10]
    figure.add_trace(go.Scatter(
        x=trail.xy[:, 0], y=trail.xy[:, 1], mode="lines+markers+text", name=f"patient {charts.text(trail.stay)}",
        line={"color": colour, "width": 1.3, "dash": dash},
        marker={"symbol": symbols, "size": sizes, "color": colour, "line": {"width": 2, "color": colour}},
        text=["" for _ in trail.hours[:-1]] + [charts.text(trail.stay)], textposition="top center", textfont={"size": 11, "color": colour},
        customdata=trail.hours.round(1), hovertemplate=f"patient {charts.text(trail.stay)}<br>%{{customdata}} h<extra></extra>",
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}, "textfont": {"color": colour}},
    ))  # fmt: skip


def _fit(figure: go.Figure, plane: Plane) -> None:
    """The same part of the plane for all snapshots, one unit equally long on both axes: distances can be compared."""
    low, high = plane.span
    room = 0.04 * np.maximum(high - low, 1e-9)
    common = {"rangemode": "normal", "tickformat": ",.3~g", "hoverformat": ",.3~g", "showspikes": False, "showgrid": True}
    figure.update_xaxes(range=[float(low[0] - room[0]), float(high[0] + room[0])], **common)
    figure.update_yaxes(range=[float(low[1] - room[1]), float(high[1] + room[1])], scaleanchor="x", **common)


def over_time_figure(look: Look, followed: Sequence[Trail], dimension: int, identity: str) -> go.Figure:
    """The mean of one dimension over the stay of each followed patient."""
    figure = blank(layout(look, x="hours since admission", y=f"mean of dimension {dimension} (prior SD)", identity=identity,
                                     legend=True, height=300))  # fmt: skip
    figure.update_xaxes(tickformat=",.3~g", hoverformat=",.1f")
    for place, trail in enumerate(followed):
        colour, dash = followed_style(place, look)
        figure.add_trace(go.Scatter(
            x=trail.hours, y=trail.values, mode="lines+markers", name=f"patient {charts.text(trail.stay)}",
            line={"color": colour, "width": 2, "dash": dash}, marker={"size": 4, "color": colour},
        ))  # fmt: skip
    return figure
