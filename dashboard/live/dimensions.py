"""KL of every latent dimension over training, as a picture: which dimensions live, since when, and which die together."""

from dataclasses import replace
from typing import Any

import numpy as np

from dashboard.charts import COLOURS, Figure, Look, add_marks, layout, say, to_json
from dashboard.live.axes import axis_of
from dashboard.live.panels import View
from dashboard.runs.snapshot import Snapshot
from shared.panels import Panel, marks, nothing

HEIGHT = 340
KL = Panel("kl", ("probe",))
HOUR_MS = 3_600_000
FLOOR, TOP = 1e-3, 1.0
"""Nats at the dark and at least at the bright end: below the first a dimension carries nothing."""
HELP = (
    "Each row is a latent dimension, the most informative of the last evaluation on top; each column an evaluation of the probe set. "
    "Bright: the dimension carries much. A row that goes dark has collapsed at that step; rows that go dark together have one cause, "
    "such as beta; rows that were never bright are surplus, which is no fault. Dotted lines are where a verdict began. The colours are "
    "logarithmic."
)


def dimension_card(snapshot: Snapshot, look: Look, view: View) -> dict[str, Any]:
    """Title, newest value and figure, as a card of a grid of charts."""
    steps, kl = snapshot.dimensions
    alive = int((kl[-1] > 0.01).sum()) if len(steps) else 0
    return {
        "key": "kl_dimensions",
        "title": "KL of each dimension",
        "newest": f"{alive} of {kl.shape[1]} above 0.01 nats at step {steps[-1]:,.0f}" if len(steps) else "",
        "help": HELP,
        "figure": to_json(dimension_figure(snapshot, look, view)),
    }


def dimension_figure(snapshot: Snapshot, look: Look, view: View) -> Figure:
    """Heatmap of log10 KL in nats, [D, n]."""
    steps, kl = snapshot.dimensions
    axis, colours = axis_of(snapshot, view.axis), COLOURS[look.dark]
    identity = f"{snapshot.status.name}:dimensions:{view.axis}"
    whole = layout(look, x=axis.title, y="dimension, by KL", identity=identity, height=HEIGHT)
    whole["hovermode"] = "closest"
    if axis.dates:
        whole["xaxis"] |= {"type": "date", "tickformat": "", "rangemode": "normal"}
    figure: Figure = {"data": [], "layout": whole}
    if not len(steps):
        words = (
            "Evaluations of this run do not list dimensions" if snapshot.probes else nothing("probe evaluation", snapshot.ended)
        )
        return say(figure, words, look)
    order = np.argsort(-np.nan_to_num(kl[-1], nan=-1.0), kind="stable")
    top = max(TOP, float(np.nanmax(kl, initial=TOP)))
    nats = np.ascontiguousarray(kl[:, order].T)
    powers = np.arange(np.log10(FLOOR), np.log10(top) + 0.01)
    shown = axis.at(steps)
    if len(shown) == 1:  # its edges: plotly.js would make a column 1 wide, a millisecond of a clock
        half = 0.5 * HOUR_MS if axis.dates else 0.05 * abs(float(shown[0])) or 0.5
        shown = np.array([shown[0] - half, shown[0] + half])
    figure["data"].append({
        "type": "heatmap", "x": shown, "y": [str(dim) for dim in order], "z": np.log10(np.maximum(nats, FLOOR)),
        "customdata": nats, "zmin": np.log10(FLOOR), "zmax": np.log10(top), "colorscale": "Cividis",
        "hovertemplate": "dimension %{y}<br>%{customdata:.3g} nats<extra></extra>",
        "colorbar": {"title": {"text": "nats", "side": "top"}, "tickvals": powers, "ticktext": [f"{10**power:g}" for power in powers],
                     "thickness": 10, "outlinewidth": 0, "tickfont": {"size": 10, "color": colours["note"]}},
    })  # fmt: skip
    found = [replace(mark, step=float(axis.at(mark.step))) for mark in marks(snapshot, KL)]
    add_marks(figure, found, look, float(shown[0]), float(shown[-1]), above=True)
    whole["yaxis"] |= {"type": "category", "autorange": "reversed", "tickformat": "", "showgrid": False}
    return figure
