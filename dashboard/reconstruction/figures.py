"""Charts of reconstruction errors: from frames of `shared.reconstruction_stats` to Plotly figures; nothing of Streamlit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import charts
from dashboard.charts import COLOURS, Look, blank, layout
from dashboard.reconstruction.events import History
from dashboard.runs.colours import RunStyle
from shared.reconstruction_stats import FEW, normal_density

MOST_RANKED = 80
"""Variables of one ranking: the worst of a large vocabulary."""
WIDEST = 5.0
"""Errors beyond so many standard deviations are counted in the outermost bar."""
MOST_SPREADS = 20_000
"""Predicted densities that are averaged, at most."""


def plain(look: Look, *, x: str, y: str, identity: str, legend: bool = False, height: int = 300) -> go.Figure:
    """A figure whose x axis is a quantity, not a step."""
    figure = blank(layout(look, x=x, y=y, identity=identity, legend=legend, height=height))
    return figure.update_layout(hovermode="closest").update_xaxes(
        tickformat=",.6~g", hoverformat=",.4~g", showspikes=False, rangemode="normal", showgrid=True
    )


def empty(figure: go.Figure, words: str, look: Look) -> go.Figure:
    """Say in words why there is nothing to draw."""
    figure.add_annotation(
        text=words, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"color": COLOURS[look.dark]["note"]}
    )
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)


def _limit(figure: go.Figure, look: Look, label: str, right: bool = False, **at: float) -> None:
    """A dashed line at x or y with its meaning beside it, for a horizontal one at its left or `right` end."""
    colours = COLOURS[look.dark]
    line = {"color": colours["limit"], "width": 1.2, "dash": "dash"}
    if "x" in at:
        figure.add_vline(at["x"], line=line, layer="below")
        place: dict[str, Any] = {"x": at["x"], "xref": "x", "y": 1, "yref": "y domain", "xanchor": "right", "yanchor": "bottom"}
    else:
        figure.add_hline(at["y"], line=line, layer="below")
        place = {
            "x": float(right),
            "xref": "x domain",
            "y": at["y"],
            "yref": "y",
            "xanchor": "right" if right else "left",
            "yanchor": "bottom",
        }
    figure.add_annotation(text=label, showarrow=False, font={"size": 10.5, "color": colours["limit"]}, **place)


def _dots(frame: pd.DataFrame, look: Look) -> dict[str, Any]:
    """Worse than the mean is another colour and another shape; few events are hollow."""
    few = frame["modelled"] < FEW
    worse = (frame["rmse_std"] > 1) & ~few
    colours = COLOURS[look.dark]
    shapes = [("diamond" if bad else "circle") + ("-open" if rare else "") for bad, rare in zip(worse, few, strict=True)]
    colour = np.where(few, colours["note"], np.where(worse, colours["limit"], colours["training"])).tolist()
    return {"symbol": shapes, "size": 9, "color": colour, "line": {"width": 1.5, "color": colour}}


def ranking(errors: pd.DataFrame, look: Look) -> go.Figure:
    """RMSE of each variable in its standard deviations, the worst on top; 1 is predicting the mean. Points carry the name.

    Variables with too few values to be ranked stand below all others.
    """
    known = errors.dropna(subset="rmse_std")
    few = known["modelled"] < FEW
    ranked = pd.concat([known[few].sort_values("modelled"), known[~few].sort_values("rmse_std")]).tail(MOST_RANKED)
    height = 90 + 18 * max(len(ranked), 3)
    figure = plain(look, x="RMSE in standard deviations of the variable", y="", identity="ranking", height=height)
    if ranked.empty:
        return empty(figure, "No variable has a reconstruction", look)
    figure.add_trace(
        go.Scatter(
            x=ranked["rmse_std"], y=ranked.index.map(charts.text), mode="markers", marker=_dots(ranked, look), customdata=ranked.index,
            text=[f"{events:,} events" + (": too few to rank" if events < FEW else "") for events in ranked["modelled"]], showlegend=False,
            hovertemplate="%{y}: %{x:.3f}<br>%{text}<extra></extra>",
        )
    )  # fmt: skip
    _limit(figure, look, "worse than the mean →", x=1)
    edge = _edge(ranked)
    for name, value in ranked["rmse_std"][ranked["rmse_std"] > edge].items():
        figure.add_annotation(text=f"{value:,.3g} →", xref="x domain", x=1, xanchor="right", y=charts.text(str(name)), showarrow=False,
                              font={"size": 10.5, "color": COLOURS[look.dark]["limit"]})  # fmt: skip
    figure.update_layout(margin_t=34)
    figure.update_yaxes(
        type="category", tickformat=None, showgrid=True, nticks=len(ranked), dtick=1, range=[-0.8, len(ranked) - 0.2]
    )
    return figure.update_xaxes(type="linear", range=[0, edge])


def _edge(ranked: pd.DataFrame) -> float:
    """Where the axis ends: a few far worse than all others are named at its edge and do not squeeze the rest together."""
    values = ranked["rmse_std"]
    inside = values[values <= max(3 * float(values.median()), 1.5)]
    return max(1.05 * float(inside.max()), 1.2)


def _axis_from_zero(values: pd.Series) -> dict[str, Any]:
    """Linear from 0; logarithmic where one variable is so bad that the others would be one heap."""
    high = float(values.max())
    if high > 12:
        return {"type": "log", "autorange": True, "autorangeoptions": {"include": [1]}}
    return {"type": "linear", "range": [0, max(high * 1.05, 1.2)]}


def over_training(history: History, variables: Sequence[str], look: Look, here: int | None = None) -> go.Figure:
    """RMSE in standard deviations over steps: chosen variables, and the median over all. `here` marks the snapshot shown."""
    figure = blank(layout(look, y="standard deviations", identity="over-training", legend=True, height=320))
    if not len(history.steps):
        return empty(figure, "No snapshot could be read", look)
    middle = np.array([frame["rmse_std"].median() for frame in history.frames])
    lines = [("all (median)", middle, COLOURS[look.dark]["text"], "dot", 3.0)]
    for place, name in enumerate(variables):
        style = RunStyle(place)
        lines.append((charts.text(name), history.of(name, "rmse_std"), style.colour(look.dark), style.dash, 1.8))
    for name, values, colour, dash, width in lines:
        figure.add_trace(
            go.Scatter(
                x=history.steps, y=values, name=name, mode="lines+markers", line={"color": colour, "dash": dash, "width": width},
                marker={"size": 5}, customdata=history.steps,
            )
        )  # fmt: skip
    _limit(figure, look, "predicting the mean", right=True, y=1)
    if here is not None:
        figure.add_vline(here, line={"color": COLOURS[look.dark]["note"], "width": 1}, layer="below")
    return figure.update_yaxes(rangemode="tozero").update_xaxes(rangemode="normal")


def unit_over_training(history: History, variable: str, unit: str, slot: int, look: Look) -> go.Figure:
    """Median absolute error of one variable in its unit over steps, with its quartiles as a band."""
    style = RunStyle(slot)
    colour = style.colour(look.dark)
    figure = blank(layout(look, y=charts.text(unit), identity=f"unit:{variable}", height=200))
    low, median, high = (history.of(variable, name) for name in ("low", "median", "high"))
    if not np.isfinite(median).any():
        return empty(figure, "No reconstruction of this variable", look)
    band = {"x": history.steps, "mode": "lines", "line": {"width": 0}, "showlegend": False}
    figure.add_trace(go.Scatter(y=low, name="lower quartile", **band))
    figure.add_trace(go.Scatter(y=high, name="upper quartile", fill="tonexty", fillcolor=faint(colour, 0.18), **band))
    figure.add_trace(
        go.Scatter(
            x=history.steps,
            y=median,
            name="median",
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 4},
        )
    )
    return figure.update_yaxes(rangemode="tozero").update_xaxes(rangemode="normal")


def faint(colour: str, share: float) -> str:
    """A colour `#rrggbb` with that much opacity."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


def distribution(error_in_std: np.ndarray, spread: np.ndarray, look: Look) -> go.Figure:
    """Errors in standard deviations of their variables as a density; `spread`, where known, gives the density that was predicted."""
    colours = COLOURS[look.dark]
    known = error_in_std[np.isfinite(error_in_std)]
    figure = plain(look, x="reconstructed − observed, standard deviations", y="density", identity="distribution", legend=True)
    if len(known) < FEW:
        return empty(figure, f"{len(known)} events: too few for a distribution", look)
    edges = np.linspace(-WIDEST, WIDEST, 101 if len(known) > 2000 else 41)
    centre = (edges[1:] + edges[:-1]) / 2
    count = np.histogram(np.clip(known, -WIDEST, WIDEST), edges)[0]
    density = count / len(known) / np.diff(edges)
    figure.add_trace(
        go.Bar(x=centre, y=density, name="observed", marker={"color": faint(colours["training"], 0.65), "line": {"width": 0}},
               customdata=count, hovertemplate="%{x:.2f}: %{customdata:,} events<extra></extra>")
    )  # fmt: skip
    spread = spread[np.isfinite(spread) & (spread > 0)]
    if len(spread):
        some = spread[:: -(-len(spread) // MOST_SPREADS)]
        line = {"color": colours["probe"], "width": 2, "dash": "dash"}
        figure.add_trace(
            go.Scatter(x=centre, y=normal_density(centre, some), name="as the decoder predicts", mode="lines", line=line)
        )
    return figure.update_layout(bargap=0)


def by_time(frame: pd.DataFrame, look: Look) -> go.Figure:
    """Median error with its quartiles over hours since admission, and below it how many events that rests on."""
    colours = COLOURS[look.dark]
    figure = plain(look, x="hours since admission", y="|error|, standard deviations", identity="by-time")
    if frame["start"].nunique() < 2:
        return empty(figure, "All events are of one time: nothing to compare", look)
    middle = (frame["start"] + frame["end"]) / 2
    figure.add_trace(
        go.Bar(x=middle, y=frame["events"], width=frame["end"] - frame["start"], yaxis="y2", name="events", showlegend=False,
               marker={"color": faint(colours["note"], 0.35), "line": {"width": 0}}, hovertemplate="%{y:,} events<extra></extra>")
    )  # fmt: skip
    band = {"x": middle, "mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(y=frame["low"], **band))
    figure.add_trace(go.Scatter(y=frame["high"], fill="tonexty", fillcolor=faint(colours["training"], 0.18), **band))
    shapes = ["circle-open" if few else "circle" for few in frame["events"] < FEW]
    figure.add_trace(
        go.Scatter(
            x=middle, y=frame["median"], mode="lines+markers", showlegend=False, customdata=frame[["start", "end", "low", "high"]],
            line={"color": colours["training"], "width": 2}, marker={"size": 7, "symbol": shapes},
            hovertemplate="%{customdata[0]:g} to %{customdata[1]:g} h: median %{y:.3f}<br>"
            "quartiles %{customdata[2]:.3f} to %{customdata[3]:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(yaxis2={**figure.layout.yaxis.to_plotly_json(), "domain": [0, 0.2], "title": {"text": "events", "font": {"size": 11}},
                                 "nticks": 2, "rangemode": "tozero", "anchor": "x"}, yaxis_domain=[0.28, 1])  # fmt: skip
    return figure.update_layout(yaxis_rangemode="tozero", xaxis_anchor="y2")


def by_frequency(errors: pd.DataFrame, look: Look) -> go.Figure:
    """RMSE of each variable against how many of its values the snapshot holds. Points carry the name."""
    figure = plain(look, x="values in this snapshot", y="RMSE, standard deviations", identity="by-frequency")
    known = errors.dropna(subset="rmse_std")
    if known.empty:
        return empty(figure, "No variable has a reconstruction", look)
    named = set(known.nlargest(3, "rmse_std").index)
    figure.add_trace(
        go.Scatter(
            x=known["modelled"], y=known["rmse_std"], mode="markers+text", marker=_dots(known, look), customdata=known.index,
            text=[charts.text(name) if name in named else "" for name in known.index], hovertext=known.index.map(charts.text),
            textposition="top center", textfont={"size": 10.5}, cliponaxis=False,
            showlegend=False, hovertemplate="%{hovertext}: %{y:.3f} at %{x:,} values<extra></extra>",
        )
    )  # fmt: skip
    _limit(figure, look, "predicting the mean", y=1)
    axis = _axis_from_zero(known["rmse_std"])
    return figure.update_yaxes(**axis).update_xaxes(type="log", dtick=1)
