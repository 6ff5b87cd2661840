"""Figures of the latent dimensions: how active each is and of which kind, and how their means go together."""

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import COLOURS, Look, blank, layout
from shared.collapse import Thresholds
from shared.latents import LatentSets

MOST_CORRELATED = 96
"""The most active dimensions; more than these cannot be told apart in a picture."""
HEIGHT = 270
GREY = ("rgba(128,128,128,0.06)", "rgba(128,128,128,0.45)")
KINDS = {
    "active": ("training", "", "carries information on every patient"),
    "mixed": ("probe", "x", "is used for some patients only"),
    "passive": ("note", "/", "follows the prior: carries nothing"),
}
"""Colour, pattern and meaning of each kind of dimension"""
FLOOR = 1e-6
"""Smaller values are drawn there: a logarithmic axis has no 0."""
Order = Literal["similarity", "activity", "number"]


def by_activity(posterior: pd.DataFrame) -> pd.DataFrame:
    """Dimensions with their place among all levels, the most active first."""
    frame = posterior.sort_values(["level", "dim"], kind="stable").reset_index(drop=True)
    return frame.assign(place=np.arange(len(frame))).sort_values("var_mu", ascending=False, kind="stable")


def activity_figure(look: Look, posterior: pd.DataFrame, identity: str) -> go.Figure:
    """Variance of the mean of each dimension, the most active first; kinds by colour and pattern, the threshold drawn."""
    frame = by_activity(posterior)
    figure = _bars(look, frame, "var_mu", "variance of the mean", identity)
    limit, colour = Thresholds.active_variance, COLOURS[look.dark]["limit"]
    figure.add_shape(type="line", xref="x domain", yref="y", x0=0, x1=1, y0=limit, y1=limit,
                     line={"color": colour, "width": 1.2, "dash": "dash"})  # fmt: skip
    figure.add_annotation(text=f"active above {limit:g}", xref="x domain", x=1, xanchor="right", yref="y", y=float(np.log10(limit)),
                          yanchor="middle", showarrow=False, font={"size": 10.5, "color": colour},
                          bgcolor=COLOURS[look.dark]["paper"], borderpad=1)  # fmt: skip
    return figure


def kl_figure(look: Look, posterior: pd.DataFrame, identity: str) -> go.Figure:
    """KL of each dimension, in the same order."""
    return _bars(look, by_activity(posterior), "kl", "KL (nats per set)", identity)


def _bars(look: Look, frame: pd.DataFrame, column: str, title: str, identity: str) -> go.Figure:
    colours = COLOURS[look.dark]
    figure = blank(layout(look, x="dimensions, the most active first", y=title, identity=identity, legend=True, height=HEIGHT))
    figure.update_layout(bargap=0.15 if len(frame) <= 128 else 0, barmode="overlay", hovermode="closest")
    rank = np.arange(1, len(frame) + 1)
    for kind, (role, pattern, _) in KINDS.items():
        own = (frame["kind"] == kind).to_numpy()
        if not own.any():
            continue
        part = frame[own]
        figure.add_trace(go.Bar(
            x=rank[own], y=part[column].clip(lower=FLOOR), name=f"{kind} ({own.sum():,})",
            marker={"color": colours[role], "line": {"width": 0}, "pattern": {"shape": pattern, "size": 5, "solidity": 0.45}},
            customdata=np.column_stack([part["level"] + 1, part["place"], part["kl"], part["var_mu"]]),
            hovertemplate="dimension %{customdata[1]} (level %{customdata[0]})<br>" + f"{kind}<br>"
            "variance of the mean %{customdata[3]:.3g}<br>KL %{customdata[2]:.3g} nats<extra></extra>",
        ))  # fmt: skip
    positive = frame[column][frame[column] > 0]
    low = np.floor(np.log10(max(float(positive.min()) if len(positive) else FLOOR, FLOOR)))
    high = np.log10(max(float(frame[column].max()), FLOOR)) + 0.15
    span = [min(low, -2.3), max(high, -1.0)]
    figure.update_yaxes(type="log", range=span, dtick="D2" if span[1] - span[0] <= 2.5 else 1)
    figure.update_xaxes(range=[0.4, len(frame) + 0.6], showspikes=False)
    return figure


def active(sets: LatentSets) -> np.ndarray:
    """Of each dimension [D], whether its mean varies over the sets."""
    mu = sets.mu[np.isfinite(sets.mu).all(axis=1)].astype(float)
    return mu.var(axis=0) > Thresholds.active_variance if len(mu) > 1 else np.zeros(sets.mu.shape[1], bool)


def correlated(sets: LatentSets, order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Dimensions [d] that vary, at most `MOST_CORRELATED` of the most active, in `order`, and their correlations [d, d].

    By similarity: by the angle between the two leading eigenvectors of the correlations, so that dimensions that go together
    stand together (Friendly 2002, "Corrgrams").
    """
    mu = sets.mu[sets.sampled & np.isfinite(sets.mu).all(axis=1)].astype(float)
    variance = mu.var(axis=0, ddof=1) if len(mu) > 1 else np.zeros(mu.shape[1])
    dims = np.argsort(-variance, kind="stable")
    dims = dims[variance[dims] > 1e-8][:MOST_CORRELATED]
    if len(dims) < 2:
        return dims, np.ones((len(dims), len(dims)))
    if order == "number":
        dims = np.sort(dims)
    found = np.corrcoef(mu[:, dims], rowvar=False)
    if order == "similarity" and len(dims) > 2:
        _, vectors = np.linalg.eigh(found)
        angle = np.arctan2(vectors[:, -2], vectors[:, -1]) % (2 * np.pi)
        around = np.argsort(angle, kind="stable")
        gap = np.diff(angle[around], append=angle[around[0]] + 2 * np.pi)
        around = np.roll(around, -(int(gap.argmax()) + 1))  # cut the circle where it is widest
        dims, found = dims[around], found[np.ix_(around, around)]
    return dims, found


def correlation_figure(look: Look, dims: np.ndarray, found: np.ndarray, alive: np.ndarray, identity: str) -> go.Figure:
    """Correlations as a heatmap, centred at 0; grey where not both dimensions are `alive` [d]: what means do by chance."""
    note = COLOURS[look.dark]["note"]
    figure = blank(layout(look, x="dimension", y="dimension", identity=identity, height=540))
    names = [str(dim) for dim in dims]
    middle = COLOURS[look.dark]["paper"]
    shared = {
        "x": names,
        "y": names,
        "zmin": -1,
        "zmax": 1,
        "zmid": 0,
        "xgap": int(len(dims) <= 40),
        "ygap": int(len(dims) <= 40),
    }
    both = np.outer(alive, alive)
    if not both.all():
        figure.add_trace(go.Heatmap(
            z=np.where(both, np.nan, found.round(3)), colorscale=[[0, GREY[1]], [0.5, GREY[0]], [1, GREY[1]]], showscale=False,
            hovertemplate="dimensions %{x} and %{y}: not both active<br>correlation %{z:.2f}, noise<extra></extra>", **shared,
        ))  # fmt: skip
    figure.add_trace(go.Heatmap(
        z=np.where(both, found.round(3), np.nan), **shared, showscale=bool(both.any()),
        colorscale=[[0, "#2166AC"], [0.25, "#6DA7D0"], [0.5, middle], [0.75, "#E58A60"], [1, "#B2182B"]],
        hovertemplate="dimensions %{x} and %{y}<br>correlation %{z:.2f}<extra></extra>",
        colorbar={"title": {"text": "correlation", "side": "right", "font": {"size": 11, "color": note}}, "thickness": 10, "outlinewidth": 0,
                  "tickfont": {"size": 11, "color": note}, "tickvals": [-1, -0.5, 0, 0.5, 1]},
    ))  # fmt: skip
    axis = {"type": "category", "showspikes": False, "showgrid": False, "nticks": 16}
    figure.update_xaxes(**axis)
    figure.update_yaxes(autorange="reversed", **axis)
    figure.update_layout(hovermode="closest")
    return figure
