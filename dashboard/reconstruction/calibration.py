"""Charts of calibration: of predicted values (coverage, PIT, z) and of predicted presence. Figures only, nothing of Streamlit."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import charts
from dashboard.charts import COLOURS, Look
from dashboard.reconstruction.figures import empty, faint, plain
from shared.reconstruction_stats import FEW, normal_density

WIDEST_Z = 4.0
MOST_SKILLS = 45
"""Variables of one chart of skill: those that occur in most sets."""
NO_STD = "The decoder predicts no uncertainty"


def _diagonal(figure: go.Figure, look: Look) -> None:
    line = {"color": COLOURS[look.dark]["limit"], "width": 1.2, "dash": "dash"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, name="perfect", hoverinfo="skip"))


def _too_few(figure: go.Figure, events: int, look: Look) -> go.Figure:
    return empty(figure, f"{events} values with a predicted uncertainty: too few" if events else NO_STD, look)


def coverage(frame: pd.DataFrame, look: Look) -> go.Figure:
    """Share of values inside central intervals against the share that should be."""
    figure = plain(look, x="nominal coverage", y="values inside", identity="coverage", legend=True)
    events = int(frame["events"].iloc[0])
    if events < FEW:
        return _too_few(figure, events, look)
    _diagonal(figure, look)
    colour = COLOURS[look.dark]["training"]
    figure.add_trace(
        go.Scatter(x=frame["level"], y=frame["inside"], mode="lines+markers", name="this snapshot", line={"color": colour, "width": 2},
                   marker={"size": 6}, hovertemplate="%{x:.0%} interval holds %{y:.1%}<extra></extra>")
    )  # fmt: skip
    return figure.update_xaxes(tickformat=".0%", range=[0, 1.02]).update_yaxes(tickformat=".0%", range=[0, 1.02])


def pit(counts: np.ndarray, look: Look) -> go.Figure:
    """Where the observed values lie in their predicted distributions: flat when calibrated, with the band of chance."""
    figure = plain(look, x="predicted probability of a smaller value (PIT)", y="relative to uniform", identity="pit")
    events = int(counts.sum())
    if events < FEW:
        return _too_few(figure, events, look)
    colours = COLOURS[look.dark]
    bins = len(counts)
    centre, relative = (np.arange(bins) + 0.5) / bins, counts / events * bins
    figure.add_trace(
        go.Bar(x=centre, y=relative, width=1 / bins, customdata=counts, showlegend=False,
               marker={"color": faint(colours["training"], 0.65), "line": {"width": 0}},
               hovertemplate="%{customdata:,} values: %{y:.2f} of what is due<extra></extra>")
    )  # fmt: skip
    chance = 1.96 * np.sqrt((bins - 1) / events)
    figure.add_hrect(1 - chance, 1 + chance, fillcolor=colours["limit"], opacity=0.12, line_width=0, layer="below")
    figure.add_hline(1, line={"color": colours["limit"], "width": 1.2, "dash": "dash"})
    return figure.update_layout(bargap=0.04).update_xaxes(range=[0, 1]).update_yaxes(rangemode="tozero")


def z_histogram(z: np.ndarray, look: Look) -> go.Figure:
    """z of the values with the standard normal that it has where the uncertainty is right."""
    figure = plain(look, x="z = (observed − reconstructed) / predicted std", y="density", identity="z", legend=True)
    known = z[np.isfinite(z)]
    if len(known) < FEW:
        return _too_few(figure, len(known), look)
    colours = COLOURS[look.dark]
    edges = np.linspace(-WIDEST_Z, WIDEST_Z, 65 if len(known) > 2000 else 33)
    centre = (edges[1:] + edges[:-1]) / 2
    count = np.histogram(np.clip(known, -WIDEST_Z, WIDEST_Z), edges)[0]
    figure.add_trace(
        go.Bar(x=centre, y=count / len(known) / np.diff(edges), name="observed", customdata=count,
               marker={"color": faint(colours["training"], 0.65), "line": {"width": 0}},
               hovertemplate="%{x:.2f}: %{customdata:,} values<extra></extra>")
    )  # fmt: skip
    line = {"color": colours["limit"], "width": 2, "dash": "dash"}
    figure.add_trace(
        go.Scatter(x=centre, y=normal_density(centre, np.ones(1)), name="standard normal", mode="lines", line=line)
    )
    return figure.update_layout(bargap=0)


def reliability(frame: pd.DataFrame, look: Look, height: int = 300) -> go.Figure:
    """Observed share of occurrences against their predicted probability, and below it how many pairs each bin holds."""
    colours = COLOURS[look.dark]
    figure = plain(
        look, x="predicted probability that a variable occurs", y="share in which it did", identity="reliability", legend=True, height=height
    )  # fmt: skip
    if frame.empty:
        return empty(figure, "No set in this snapshot", look)
    _diagonal(figure, look)
    shapes = ["circle-open" if few else "circle" for few in frame["pairs"] < FEW]
    whiskers = {"array": frame["high"] - frame["observed"], "arrayminus": frame["observed"] - frame["low"]}
    figure.add_trace(
        go.Scatter(
            x=frame["predicted"], y=frame["observed"], mode="lines+markers", name="this snapshot", customdata=frame["pairs"],
            line={"color": colours["training"], "width": 2}, marker={"size": 7, "symbol": shapes},
            error_y={"type": "data", "symmetric": False, **whiskers, "thickness": 1, "width": 3},
            hovertemplate="predicted %{x:.1%}, occurred %{y:.1%}<br>%{customdata:,} pairs<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Bar(x=frame["predicted"], y=frame["pairs"], width=0.025, yaxis="y2", showlegend=False,
               marker={"color": faint(colours["note"], 0.45)}, hovertemplate="%{y:,} pairs<extra></extra>")
    )  # fmt: skip
    figure.update_layout(yaxis2={**figure.layout.yaxis.to_plotly_json(), "domain": [0, 0.18], "title": {"text": "pairs", "font": {"size": 11}},
                                 "type": "log", "dtick": 2, "tickformat": ".0s", "anchor": "x"}, yaxis_domain=[0.26, 1])  # fmt: skip
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", anchor="y2")
    return figure.update_layout(yaxis_range=[-0.02, 1.05], yaxis_tickformat=".0%")


def presence_height(variables: int) -> int:
    """Of both charts of presence, which stand side by side, in pixels."""
    return 80 + 13 * min(max(variables, 20), MOST_SKILLS)


def presence_skill(frame: pd.DataFrame, look: Look) -> go.Figure:
    """Skill of the presence of each variable over its own frequency, the best on top; points carry the name."""
    known = frame.dropna(subset="skill").nlargest(MOST_SKILLS, "sets").sort_values("skill")
    height = presence_height(len(frame))
    figure = plain(look, x="Brier skill over the variable's own frequency", y="", identity="skill", height=height)
    if known.empty:
        return empty(figure, "Every variable occurs in all sets or in none", look)
    colours = COLOURS[look.dark]
    worse = known["skill"] <= 0
    figure.add_trace(
        go.Scatter(
            x=known["skill"], y=known.index.map(charts.text), mode="markers", customdata=known.index, showlegend=False,
            text=[f"in {n:,} sets ({share:.1%})" for n, share in zip(known["sets"], known["occurs"], strict=True)],
            marker={"size": 8, "symbol": ["diamond" if bad else "circle" for bad in worse],
                    "color": np.where(worse, colours["limit"], colours["training"]).tolist()},
            hovertemplate="%{y}: %{x:.3f}<br>%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(0, line={"color": colours["limit"], "width": 1.2, "dash": "dash"}, layer="below")
    figure.update_yaxes(
        type="category", tickformat=None, nticks=len(known), dtick=1, range=[-0.8, len(known) - 0.2], tickfont={"size": 10}
    )
    return figure.update_xaxes(range=[min(float(known["skill"].min()) * 1.1, -0.05), 1.02])
