"""From curves to a Plotly figure; nothing of Streamlit. What a chart consists of is said in `shared.drawing`.

Figures are dictionaries, arrays as base64: `plotly.graph_objects` takes a second to check the 400 curves of fifty runs, and fails
when another thread has imported pandas by half.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from plotly.basedatatypes import BaseTraceType

from shared.decimate import decimate
from shared.drawing import (
    COLOURS,
    WIDTHS,
    Curve,
    Guide,
    Mark,
    Role,
    Scale,
    Tone,
    around_constant,
    is_dotted,
    is_log,
    is_near,
    on_scale,
    outside,
    robust_range,
    short,
)  # fmt: skip
from shared.placing import guide_corner, mark_words

__all__ = [
    "COLOURS",
    "FONT",
    "HEIGHT",
    "WIDTHS",
    "Curve",
    "Figure",
    "Guide",
    "Look",
    "Mark",
    "Role",
    "Scale",
    "Tone",
    "add_marks",
    "annotate",
    "beyond",
    "blank",
    "draw",
    "layout",
    "packed",
    "say",
    "text",
    "to_json",
    "y_axis",
]  # fmt: skip
Figure = dict[str, Any]
"""`data` and `layout` as plotly.js reads them."""
HEIGHT = 250
LEFT, BELOW = 50, 40
"""Room for a title and numbers of usual length: axes below each other begin at the same place. Where more is needed plotly.js takes
more, and draws a second time for it."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def packed(values: np.ndarray) -> dict[str, str]:
    """Numbers as plotly.js reads them fastest: 4 bytes each where that is exact enough, whole numbers exactly."""
    known = values[np.isfinite(values)]
    most = float(np.abs(known).max()) if len(known) else 0.0
    whole = len(known) == len(values) > 0 and bool((values == np.round(values)).all())
    kind = "i4" if whole and most < 2**31 else "f4" if most < 2**24 else "f8"  # dates are milliseconds since 1970
    return {"bdata": base64.b64encode(values.astype(f"<{kind}").tobytes()).decode("ascii"), "dtype": kind}


def to_json(figure: Figure) -> str:
    """A figure for the browser."""
    return orjson.dumps(figure, option=orjson.OPT_SERIALIZE_NUMPY).decode()


@dataclass(frozen=True)
class Look:
    """What the reader chose."""

    dark: bool = False
    scale: Scale = "auto"


def text(words: str) -> str:
    """Words for a chart: plotly.js takes some tags in titles, names, categories and hover texts for markup, links among them."""
    return html.escape(words, quote=False)


def draw(
    curves: Sequence[Curve], *, unit: str = "", guides: Sequence[Guide] = (), marks: Sequence[Mark] = (), include: Sequence[float] = (),
    look: Look = Look(), prefer: Scale = "auto", identity: str = "", empty: str = "No values yet", x: str = "optimizer step",
    dates: bool = False,
) -> Figure:  # fmt: skip
    """A line chart, over optimizer steps unless `x` says otherwise; over dates in milliseconds since 1970 with `dates`.

    `include` are y values always in view; `prefer` is the scale when the reader chose none; `identity` keeps zoom and hidden
    legend entries through updates as long as it stays the same; `empty` is shown when no curve has a value.
    """
    colours = COLOURS[look.dark]
    curves = [curve for curve in curves if np.isfinite(curve.y).any()]
    values = np.concatenate([curve.y for curve in curves]) if curves else np.empty(0)
    values = values[np.isfinite(values)]
    log = is_log(values, look.scale if look.scale != "auto" else prefer)
    kind = f"{identity}:{'log' if log else 'linear'}"
    shown = sum(not curve.faint for curve in curves)
    whole = layout(look, x=x, y=text(unit), identity=kind, legend=shown > 1)
    if dates:
        whole["xaxis"] |= {"type": "date", "tickformat": "", "hoverformat": "%-d %b %H:%M:%S", "rangemode": "normal"}
    figure: Figure = {"data": [_trace(curve, colours, log) for curve in curves], "layout": whole}
    if not len(values):
        return say(figure, empty, look)
    whole["yaxis"] |= y_axis(values, log, include)
    clipped = None if log else beyond(values, include, look)
    if clipped is not None:
        annotate(figure, **clipped)
    for guide in on_scale(guides, values, log):
        if guide.always or is_near(guide, values):
            _add_guide(figure, guide, colours, log, guide_corner(guide, curves, log, include))
    add_marks(figure, marks, look, min(curve.x[0] for curve in curves), max(curve.x[-1] for curve in curves))
    return figure


def blank(whole: dict[str, Any], data: "Sequence[BaseTraceType]" = ()) -> "go.Figure":
    """A figure of plotly's own objects, for pages that load pandas before they draw. Without a template: Streamlit's own has colours
    that only its component understands."""
    import plotly.graph_objects as go

    return go.Figure(data=data, layout=whole | {"template": "none"})


def annotate(figure: Figure, **annotation: Any) -> None:
    """Add words."""
    figure["layout"].setdefault("annotations", []).append(annotation)


def say(figure: Figure, words: str, look: Look) -> Figure:
    """A chart without data says why, and has no axes."""
    font = {"color": COLOURS[look.dark]["note"]}
    annotate(figure, text=text(words), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font=font)
    figure["layout"]["xaxis"] = figure["layout"]["yaxis"] = {"visible": False}
    return figure


def layout(
    look: Look, *, x: str = "optimizer step", y: str = "", identity: str = "", legend: bool = False, height: int = HEIGHT
) -> dict[str, Any]:
    """What all figures share: fonts, quiet axes titled `x` and `y`, hover, legend on top. `identity` keeps zoom while it stays."""
    colours = COLOURS[look.dark]
    axis: dict[str, Any] = {
        "gridcolor": colours["grid"], "zeroline": False, "linecolor": colours["grid"], "ticks": "", "automargin": True,
        "tickfont": {"size": 11, "color": colours["note"]}, "title": {"font": {"size": 11, "color": colours["note"]}, "standoff": 6},
    }  # fmt: skip
    return {
        "height": height, "margin": {"l": LEFT, "r": 10, "t": 40 if legend else 16, "b": BELOW}, "uirevision": identity,
        "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": colours["text"], "size": 12, "family": FONT},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)",
                   "font": {"size": 11, "color": colours["text"]}},
        "hoverlabel": {"bgcolor": colours["paper"], "bordercolor": colours["grid"], "font": {"color": colours["text"], "size": 12}},
        "xaxis": {**axis, "title": {**axis["title"], "text": x}, "tickformat": ",.9~g", "showgrid": False, "nticks": 7,
                  "hoverformat": ",.9~g", "showspikes": True, "spikemode": "across", "spikethickness": 1, "spikedash": "dot",
                  "spikecolor": colours["note"], "rangemode": "tozero"},
        "yaxis": {**axis, "title": {**axis["title"], "text": y}, "tickformat": ",.6~g", "hoverformat": ",.4~g", "nticks": 6},
    }  # fmt: skip


def _trace(curve: Curve, colours: dict[str, str], log: bool) -> dict[str, Any]:
    x, y = decimate(curve.x, np.where(curve.y > 0, curve.y, np.nan) if log else curve.y)
    colour, smooth = colours[curve.role], curve.source.endswith(":smooth")
    if curve.apart:
        return {
            "type": "scatter", "mode": "markers", "x": packed(x), "y": packed(y), "name": text(curve.label),
            "marker": {"size": 10, "symbol": "diamond", "color": colour, "line": {"width": 1.5, "color": colours["paper"]}},
        }  # fmt: skip
    return {
        "type": "scatter", "x": packed(x), "y": packed(y), "name": text(curve.label), "connectgaps": False,
        "mode": "lines+markers" if is_dotted(curve, len(x)) else "lines",
        "line": {"color": colour, "width": 2 if smooth else WIDTHS[curve.role], "dash": "dot" if curve.dashed else "solid"},
        "marker": {"size": 5, "color": colour}, "opacity": 0.25 if curve.faint else 0.85 if curve.role == "training" else 1,
        "showlegend": not curve.faint, "hoverinfo": "skip" if curve.faint else "all", "meta": curve.source,
    }  # fmt: skip


def y_axis(values: np.ndarray, log: bool, include: Sequence[float]) -> dict[str, Any]:
    """Automatic, so that a zoom survives updates, but clipped: the first loss of thousands must not flatten the rest."""
    if log:
        wanted = [value for value in include if value > 0]
        positive = values[values > 0]
        decades = np.log10(positive.max() / positive.min())
        return {"type": "log", "autorange": True, "autorangeoptions": {"include": wanted}, "nticks": 3 if decades < 2.5 else 5}
    low, high = robust_range(values, include)
    options: dict[str, Any] = {"include": [*include, *around_constant(values, include)]}
    if values.max() > high:
        options["clipmax"] = high
    if values.min() < low:
        options["clipmin"] = low
    return {"type": "linear", "autorange": True, "autorangeoptions": options}


def beyond(values: np.ndarray, include: Sequence[float], look: Look) -> dict[str, Any] | None:
    """The note on a linear axis that cuts a value off; None where all are in view."""
    clipped = outside(values, include)
    if clipped is None:
        return None
    edge = "top" if clipped > np.median(values) else "bottom"
    return {
        "text": f"beyond the axis: {short(clipped)}", "showarrow": False, "xref": "x domain", "x": 1, "yref": "y domain",
        "y": float(edge == "top"), "xanchor": "right", "yanchor": edge, "font": {"size": 11, "color": COLOURS[look.dark]["note"]},
    }  # fmt: skip


def _add_guide(figure: Figure, guide: Guide, colours: dict[str, str], log: bool, corner: tuple[bool, bool]) -> None:
    colour, (right, above) = colours[guide.tone], corner
    top = guide.low if guide.high is None else guide.high
    shape: dict[str, Any] = {"type": "rect", "fillcolor": colour, "opacity": 0.07, "line": {"width": 0}}
    if guide.high is None:
        shape = {"type": "line", "line": {"color": colour, "width": 1.2, "dash": "dash"}}
    shape |= {"xref": "x domain", "yref": "y", "x0": 0, "x1": 1, "y0": guide.low, "y1": top, "layer": "below"}
    figure["layout"].setdefault("shapes", []).append(shape)
    if not guide.label:
        return
    annotate(
        figure, text=text(guide.label), xref="x domain", x=float(right), xanchor="right" if right else "left", yref="y",
        y=float(np.log10(top)) if log else top, yanchor="bottom" if above else "top", showarrow=False,
        font={"size": 10.5, "color": colour, "shadow": ", ".join([f"0 0 2px {colours['paper']}"] * 3)},
    )  # fmt: skip


def add_marks(figure: Figure, marks: Sequence[Mark], look: Look, first: float, last: float, *, above: bool = False) -> None:
    """Dotted lines where something began, their words over the axes; `above` what is drawn where that fills the chart.

    `first` and `last` are the ends of what is drawn.
    """
    colours, whole = COLOURS[look.dark], figure["layout"]
    for mark in marks:
        line = {"color": colours[mark.tone], "width": 1.8 if above else 1, "dash": "dot"}
        whole.setdefault("shapes", []).append({
            "type": "line", "xref": "x", "yref": "y domain", "x0": mark.step, "x1": mark.step, "y0": 0, "y1": 1, "line": line,
            "layer": "above" if above else "below",
        })  # fmt: skip
    found = mark_words(marks, min(0.0, first) if whole["xaxis"].get("rangemode") == "tozero" else first, last)
    for words in found:
        annotate(
            figure, text=text(words.label), xref="x", x=words.mark.step, yref="y domain", y=1, xanchor="right" if words.left else "left",
            yanchor="bottom", showarrow=False, font={"size": 10.5, "color": colours[words.mark.tone]},
            hovertext="<br>".join(text(mark.label) for mark in marks if mark.label),
        )  # fmt: skip
    if found:
        whole["margin"]["t"] = max(whole["margin"]["t"], 24) + (14 if whole["showlegend"] else 0)
        whole["legend"]["y"] = 1.1
