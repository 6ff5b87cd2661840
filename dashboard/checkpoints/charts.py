"""From norms and distances of tensors to figures by layer; nothing of Streamlit."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from dashboard import charts
from dashboard.charts import COLOURS, Look, blank, layout
from dashboard.formats import count, number
from shared.torch_values import Distance, Norms

MOST_LAYERS = 40
ROW_PX, FRAME_PX = 17, 92
LONGEST_NAME = 34


@dataclass(frozen=True)
class Layer:
    """Several tensors of one module of the network, taken together."""

    name: str
    tensors: int
    values: int
    size: float
    """Root mean square of the weights; or, of a difference, ||a - b|| / ||a||."""
    largest: float
    broken: int = 0
    """Values that are not finite."""


def modules(names: Iterable[str], most: int = MOST_LAYERS) -> dict[str, str]:
    """Each tensor's module, in as many parts as give at most `most` modules: `blocks.0.norm` for `blocks.0.norm.weight`."""
    parts = {name: name.split(".") for name in names}
    owners: dict[str, str] = {}
    for depth in range(1, max((len(path) for path in parts.values()), default=1) + 1):
        deeper = {name: ".".join(path[: max(min(depth, len(path) - 1), 1)]) for name, path in parts.items()}
        if owners and len(set(deeper.values())) > most:
            break
        owners = deeper
    return owners


def layers_of_norms(norms: Mapping[str, Norms]) -> list[Layer]:
    """Weights by module, in the order of the file."""
    found: dict[str, Layer] = {}
    owners = modules(norms)
    for name, one in norms.items():
        finite = one.values - one.nans - one.infinities
        before = found.get(owners[name], Layer(owners[name], 0, 0, 0.0, 0.0))
        known = before.values - before.broken
        squares = math.hypot(before.size * math.sqrt(known), one.l2)
        found[before.name] = Layer(
            before.name, before.tensors + 1, before.values + one.values, squares / math.sqrt(max(known + finite, 1)),
            max(before.largest, one.largest), before.broken + one.nans + one.infinities,
        )  # fmt: skip
    return list(found.values())


def layers_of_distances(distances: Mapping[str, Distance]) -> list[Layer]:
    """Relative change by module, in the order of the file."""
    owners = modules(distances)
    apart: dict[str, float] = {}
    base: dict[str, float] = {}
    found: dict[str, Layer] = {}
    for name, one in distances.items():
        owner = owners[name]
        apart[owner], base[owner] = math.hypot(apart.get(owner, 0.0), one.l2), math.hypot(base.get(owner, 0.0), one.base)
        before = found.get(owner, Layer(owner, 0, 0, 0.0, 0.0))
        found[owner] = replace(
            before, tensors=before.tensors + 1, values=before.values + one.differing, largest=max(before.largest, one.largest)
        )
    return [replace(one, size=Distance(apart[name], base[name], 0, 0).relative) for name, one in found.items()]


def norm_figure(layers: list[Layer], look: Look, identity: str) -> go.Figure:
    """Two dots a layer on a logarithmic axis: root mean square and largest magnitude of its weights."""
    colours = COLOURS[look.dark]
    sizes = [value for one in layers for value in (one.size, one.largest)]
    figure = _frame(layers, sizes, look, "magnitude of the weights", identity, legend=True)
    for row, one in enumerate(layers):
        if _drawable(one.size):
            line = {"color": colours["grid"], "width": 3}
            figure.add_shape(type="line", x0=one.size, x1=one.largest, y0=row, y1=row, layer="below", line=line)
    dots = (
        ("root mean square", [one.size for one in layers], colours["training"], "circle"),
        ("largest", [one.largest for one in layers], colours["probe"], "diamond-open"),
    )
    for label, values, colour, symbol in dots:
        figure.add_trace(_dots(layers, values, label, colour, symbol, [_told(one) for one in layers]))
    return figure


def change_figure(layers: list[Layer], look: Look, identity: str) -> go.Figure:
    """One stalk a layer on a logarithmic axis: how far its weights moved, relative to their size before."""
    colours = COLOURS[look.dark]
    sizes = [one.size for one in layers]
    figure = _frame(layers, sizes, look, "relative change", identity, legend=False, nothing="unchanged")
    drawn = [size for size in sizes if _drawable(size)]
    low = math.log10(min(drawn)) - 0.3 if drawn else -6
    for row, size in enumerate(sizes):
        if _drawable(size):
            line = {"color": colours["training"], "width": 2}
            figure.add_shape(type="line", x0=10**low, x1=size, y0=row, y1=row, layer="below", line=line)
    figure.add_trace(_dots(layers, sizes, "relative change", colours["training"], "circle", [_moved(one) for one in layers]))
    if drawn:
        figure.update_xaxes(range=[low, math.log10(max(drawn)) + 0.15])
    return figure


def _dots(layers: list[Layer], values: list[float], label: str, colour: str, symbol: str, told: list[str]) -> go.Scatter:
    return go.Scatter(
        x=[value if _drawable(value) else None for value in values], y=list(range(len(layers))), name=label, mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8, "line": {"color": colour, "width": 1.5}},
        text=[f"<b>{charts.text(one.name)}</b><br>{label} {number(value, 3)}<br>{words}"
              for one, value, words in zip(layers, values, told, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _drawable(value: float) -> bool:
    """Whether a value has a place on a logarithmic axis."""
    return math.isfinite(value) and value > 0


def _row(layer: Layer, nothing: str) -> str:
    """A layer's name on the axis, with what has no dot said in words. Names are cut in front: the end tells them apart."""
    name = layer.name if len(layer.name) <= LONGEST_NAME else f"…{layer.name[-LONGEST_NAME + 1 :]}"
    notes = [nothing] if layer.size == 0 else ["from zero"] if math.isinf(layer.size) else []
    notes += [f"{count(layer.broken)} not finite"] if layer.broken else []
    return charts.text(f"{name} ({', '.join(notes)})" if notes else name)


def _told(layer: Layer) -> str:
    return f"{count(layer.values)} values in {_tensors(layer)}" + (
        f", {count(layer.broken)} not finite" if layer.broken else ""
    )


def _moved(layer: Layer) -> str:
    return f"{count(layer.values)} values differ, in {_tensors(layer)}; largest change {number(layer.largest, 3)}"


def _tensors(layer: Layer) -> str:
    return "one tensor" if layer.tensors == 1 else f"{layer.tensors} tensors"


def _frame(
    layers: list[Layer], values: list[float], look: Look, x: str, identity: str, *, legend: bool, nothing: str = "all zero",
) -> go.Figure:  # fmt: skip
    """An empty chart with a row for each layer, the first on top."""
    colours, rows = COLOURS[look.dark], max(len(layers), 4)
    figure = blank(layout(look, x=x, identity=identity, legend=legend, height=FRAME_PX + ROW_PX * rows))
    figure.update_layout(hovermode="closest")
    shown = [value for value in values if _drawable(value)]
    narrow = bool(shown) and max(shown) < 30 * min(shown)
    figure.update_xaxes(type="log", rangemode="normal", showgrid=True, gridcolor=colours["grid"], tickformat="~g", showspikes=False,
                        dtick="D2" if narrow else 1, nticks=0)  # fmt: skip
    figure.update_yaxes(tickmode="array", tickvals=list(range(len(layers))), ticktext=[_row(one, nothing) for one in layers],
                        range=[len(layers) - 0.4, -0.6], fixedrange=True, showgrid=True,
                        tickfont={"size": 10.5, "color": colours["text"]})  # fmt: skip
    if not layers:
        figure.add_annotation(text="No tensors to show", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper",
                              font={"color": colours["note"]})  # fmt: skip
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
    return figure
