"""Charts in PNG files, as the dashboard shows them: what is in each is said in `shared.panels`. matplotlib, no display."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import AutoMinorLocator, FuncFormatter, MaxNLocator, NullFormatter

from shared.decimate import decimate
from shared.drawing import COLOURS, Curve, Guide, is_dotted, is_log, is_near, on_scale, outside, robust_range, short
from shared.layout import RunLayout
from shared.panels import POSTERIOR, Content, Panel, content
from shared.placing import guide_corner, mark_words
from shared.source import Source

LAST_POINTS = 20_000
INK = COLOURS[False]
GRID = "#E5E7EB"
STYLE: Any = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#D1D5DB", "axes.labelcolor": INK["note"],
    "xtick.color": INK["note"], "ytick.color": INK["note"], "text.color": INK["text"], "font.size": 9, "axes.labelsize": 8.5,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "font.family": ["DejaVu Sans"], "svg.hashsalt": "",
}  # fmt: skip
HALO = [withStroke(linewidth=2.5, foreground="white", alpha=0.8)]
"""Around words that lie on curves."""
STEPS = [1, 2, 2.5, 5, 10]
WIDTH, HEIGHT = 4.6, 3.5
"""Inches of one chart with its words."""


def four_panels(layout: RunLayout, path: Path) -> None:
    """Draw the posterior in the log of a run so far into `path` (PNG). Raises OSError when it cannot be written."""
    from backend.curves_source import recent_source

    chart_sheet(path, layout.root.name, recent_source(layout, LAST_POINTS, POSTERIOR), POSTERIOR, columns=2)


def chart_sheet(
    path: Path, title: str, source: Source, panels: Sequence[Panel], columns: int, missing: dict[str, str] | None = None
) -> None:
    """Draw panels into a PNG, each with what its metric means. `missing` says, by metric, why there is nothing.

    Raises:
        OSError: it cannot be written.
    """
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH * columns, HEIGHT * rows + 0.4)
        grid = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
        for axes, panel in zip(grid, panels, strict=False):
            found = content(source, panel, (missing or {}).get(panel.metric))
            draw(axes, found)
            caption(axes, panel.info.label, panel.info.help, above=10 if any(mark.label for mark in found.marks) else 0)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        save(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that leaves its charts room to breathe. To be used within `rc_context(STYLE)`."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all. Raises OSError when it cannot be written."""
    temporary = path.with_suffix(".tmp")
    try:
        figure.savefig(temporary, dpi=130, format="png", facecolor="white")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def caption(axes: Axes, title: str, text: str, width: int = 70, above: float = 0) -> None:
    """A chart's title, and under it what it shows; so many points `above` the axes, where words of marks stand below it."""
    lines = textwrap.wrap(text.replace("$", r"\$"), width)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=6 + above + 10 * len(lines))
    axes.annotate(
        "\n".join(lines), (0, 1), xytext=(0, 4 + above), xycoords="axes fraction", textcoords="offset points", va="bottom", fontsize=7.2,
        color=INK["note"], annotation_clip=False,
    )  # fmt: skip


def draw(axes: Axes, found: Content) -> None:
    """One line chart over optimizer steps, by the rules of the dashboard's."""
    curves = [curve for curve in found.curves if np.isfinite(curve.y).any()]
    if not curves:
        nothing(axes, found.empty)
        return
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    log = is_log(values, found.scale)
    guides = [guide for guide in on_scale(found.guides, values, log) if guide.always or is_near(guide, values)]
    for curve in curves:
        _line(axes, curve, log)
    _y_axis(axes, values, log, [*found.include, *(guide.low for guide in guides if guide.label)])
    for guide in guides:
        _guide(axes, guide, *guide_corner(guide, curves, log, found.include))
    for mark in found.marks:
        axes.axvline(mark.step, color=INK[mark.tone], linestyle=":", linewidth=1, zorder=2)
    for words in mark_words(found.marks, 0.0, max(float(curve.x[-1]) for curve in curves)):
        axes.annotate(
            words.label, (words.mark.step, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
            ha="right" if words.left else "left", va="bottom", fontsize=7, color=INK[words.mark.tone], zorder=5,
        )  # fmt: skip
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(found.unit)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=STEPS))
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    if len(curves) > 1:
        axes.legend(frameon=False, loc="best", handlelength=1.6, borderaxespad=0.2)


def nothing(axes: Axes, words: str) -> None:
    """An empty chart that says why it is."""
    axes.text(
        0.5, 0.5, textwrap.fill(words, 44), ha="center", va="center", transform=axes.transAxes, color=INK["note"], fontsize=9
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor("#F9FAFB")


def _line(axes: Axes, curve: Curve, log: bool) -> None:
    x, y = decimate(curve.x, np.where(curve.y > 0, curve.y, np.nan) if log else curve.y)
    if curve.apart:
        axes.plot(x, y, "D", label=curve.label, color=INK[curve.role], markersize=6, markeredgecolor="white", zorder=5)
        return
    axes.plot(
        x, y, label=curve.label, color=INK[curve.role], linestyle=":" if curve.dashed else "-",
        linewidth=1.0 if curve.role == "training" else 1.6, alpha=0.85 if curve.role == "training" else 1.0,
        marker="o" if is_dotted(curve, len(x)) else None, markersize=3, zorder=3 if curve.role == "training" else 4,
    )  # fmt: skip


def _y_axis(axes: Axes, values: np.ndarray, log: bool, include: Sequence[float]) -> None:
    """As far as the values are worth showing, and `include`, every guide's place among them; what lies beyond is said."""
    if log:
        axes.set_yscale("log")
        axes.margins(y=0.12)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    low, high = robust_range(values, include)
    bottom, top = max(min([values.min(), *include]), low), min(max([values.max(), *include]), high)
    room = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    axes.set_ylim(bottom - room, top + room)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.yaxis.set_minor_locator(AutoMinorLocator(1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}".replace("-", "−")))
    clipped = outside(values, include)
    if clipped is not None:
        above = clipped > np.median(values)
        axes.annotate(
            f"beyond the axis: {short(clipped)}", (1, float(above)), xycoords="axes fraction", ha="right", fontsize=7,
            va="top" if above else "bottom", color=INK["note"],
        )  # fmt: skip


def _guide(axes: Axes, guide: Guide, right: bool, above: bool) -> None:
    colour = INK[guide.tone]
    if guide.high is None:
        axes.axhline(guide.low, color=colour, linestyle="--", linewidth=1, zorder=2)
    else:
        axes.axhspan(guide.low, guide.high, color=colour, alpha=0.1, linewidth=0, zorder=1)
    axes.annotate(
        guide.label, (float(right), guide.low if guide.high is None else guide.high), xycoords=("axes fraction", "data"),
        xytext=(-2 if right else 2, 2 if above else -2), textcoords="offset points", ha="right" if right else "left",
        va="bottom" if above else "top", fontsize=7, color=colour, zorder=5, path_effects=HALO,
    )  # fmt: skip
