"""What a line chart consists of, whoever draws it: Plotly in the dashboard, matplotlib in the backend.

One colour has one meaning everywhere: training is blue, the fixed probe set orange, validation green (Okabe and Ito's palette,
safe for colour-blind readers).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Role = Literal["training", "probe", "validation"]
Scale = Literal["auto", "linear", "log"]
Tone = Literal["good", "limit", "note"]

COLOURS: dict[bool, dict[str, str]] = {
    False: {"training": "#0072B2", "probe": "#D55E00", "validation": "#009E73", "good": "#009E73", "limit": "#B0307A",
            "note": "#6B7280", "text": "#374151", "grid": "rgba(107,114,128,0.16)", "paper": "#FFFFFF"},
    True: {"training": "#56B4E9", "probe": "#E69F00", "validation": "#2CC295", "good": "#2CC295", "limit": "#E58FC0",
           "note": "#9CA3AF", "text": "#D1D5DB", "grid": "rgba(156,163,175,0.16)", "paper": "#161B22"},
}  # fmt: skip
"""Colour of each role and tone, by whether the page is dark."""
WIDTHS: dict[str, float] = {"training": 1.4, "probe": 2, "validation": 2}
POINTS_WITH_MARKERS = 60
"""Evaluations are few: up to so many, each is a dot."""


@dataclass(frozen=True)
class Curve:
    """One series; NaN in `y` is a gap."""

    label: str
    x: np.ndarray
    y: np.ndarray
    role: Role
    dashed: bool = False
    source: str = ""
    """`ROLE:METRIC`, or `ROLE:METRIC:smooth`: where a page asks for more of it."""
    faint: bool = False
    """Behind its own smoothed curve."""
    apart: bool = False
    """Of another sample than the curve beside it: diamonds, joined to nothing."""


@dataclass(frozen=True)
class Guide:
    """A horizontal reference: a line at `low`, or a band up to `high`. Drawn only when the data come near, if not `always`."""

    label: str
    low: float
    high: float | None = None
    tone: Tone = "note"
    always: bool = True


@dataclass(frozen=True)
class Mark:
    """A vertical line at a step: where a verdict began, where values were not finite, where a run was resumed."""

    label: str
    step: float
    tone: Tone = "limit"


def is_log(values: np.ndarray, scale: Scale) -> bool:
    """The scale to use; automatically logarithmic when positive values span so much that a linear axis shows only the peak."""
    if not len(values) or scale == "linear" or (values <= 0).all():
        return False
    if scale == "log":
        return True
    return bool(values.min() > 0 and values.max() > 10 * np.median(values))


def robust_range(values: np.ndarray, include: Sequence[float]) -> tuple[float, float]:
    """The part of a linear axis worth showing: the first loss of thousands must not flatten the rest."""
    low, high = np.percentile(values, [10, 90])
    room = 2 * (high - low) or abs(high) or 1.0
    return min([float(low - room), *include]), max([float(high + room), *include])


def around_constant(values: np.ndarray, include: Sequence[float]) -> tuple[float, ...]:
    """What else to show of an axis where all is one value, which would have no length, or be one of -1 to 1; else nothing."""
    seen = np.array([*values, *include])
    least, most = float(seen.min()), float(seen.max())
    room = 0.1 * max(abs(least), abs(most)) or 1.0
    return (least - room, most + room) if most - least < 1e-5 * room else ()


def outside(values: np.ndarray, include: Sequence[float]) -> float | None:
    """The value farthest outside the robust range of a linear axis, if there is any."""
    low, high = robust_range(values, include)
    farthest = max((values.max(), values.min()), key=lambda value: max(value - high, low - value))
    return float(farthest) if farthest > high or farthest < low else None


def is_near(guide: Guide, values: np.ndarray) -> bool:
    """Whether the data come near a guide that is not always drawn."""
    return bool(values.min() / 3 <= guide.low <= values.max() * 3)


def on_scale(guides: Sequence[Guide], values: np.ndarray, log: bool) -> list[Guide]:
    """Guides as a scale can show them: on a logarithmic one 0 has no place, and a band from 0 begins where the values do."""
    if not log:
        return list(guides)
    least = float(values[values > 0].min())
    bands = [replace(one, low=min(least, one.high)) if one.low <= 0 and one.high else one for one in guides]
    return [one for one in bands if one.low > 0]


def short(value: float) -> str:
    """A number as a chart says it."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def is_dotted(curve: Curve, points: int) -> bool:
    """Whether each point of a curve is a dot too: of a few evaluations, or of a single value."""
    return points == 1 or (curve.role != "training" and points <= POINTS_WITH_MARKERS)
