"""Where the words of guides and marks stand in a line chart, so that no curve runs through them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.drawing import Curve, Guide, Mark, robust_range

LETTER, LINE = 0.016, 0.09
"""About how wide a letter and how high a line of words is, as a share of the axes."""


@dataclass(frozen=True)
class Words:
    """Above the axes, to the right of a mark's line or, where they would run out of the picture, to its left."""

    mark: Mark
    label: str
    """Of the first mark where several would stand over each other: `Posterior collapse +2`."""
    left: bool


def mark_words(marks: Sequence[Mark], first: float, last: float) -> list[Words]:
    """What stands above a chart that spans `first` to `last`."""
    found: list[Words] = []
    span, told, busy = (last - first) or 1.0, 0, -np.inf
    for mark in sorted((mark for mark in marks if mark.label), key=lambda one: one.step):
        width, place = LETTER * (len(mark.label) + 3), (mark.step - first) / span
        left = place + width > 1
        if found and place - width * left < busy:
            told += 1
            found[-1] = Words(found[-1].mark, f"{found[-1].mark.label} +{told}", found[-1].left)
            continue
        found.append(Words(mark, mark.label, left))
        told, busy = 0, place + width * (not left)
    return found


def guide_corner(guide: Guide, curves: Sequence[Curve], log: bool, include: Sequence[float]) -> tuple[bool, bool]:
    """(at the right end, above the line): the first place beside a guide where the fewest points of curves lie."""
    scale = np.log10 if log else np.asarray
    lines = [(curve.x[keep], scale(curve.y[keep])) for curve in curves if (keep := _drawn(curve, log)).any()]
    if not lines:
        return True, True
    values = np.concatenate([y for _, y in lines])
    others = scale(np.array([value for value in (*include, guide.low) if value > 0 or not log], float))
    low, high = (values.min(), values.max()) if log else robust_range(values, others.tolist())
    low, high = min(*others, max(low, values.min())), max(*others, min(high, values.max()))
    left, right = min(x[0] for x, _ in lines), max(x[-1] for x, _ in lines)
    width, height = LETTER * len(guide.label) * (right - left), LINE * ((high - low) or 1.0)
    level = float(scale(np.array(guide.low if guide.low > 0 or not log else 1.0)))
    best: tuple[int, bool, bool] | None = None
    for at_right, above in ((True, True), (True, False), (False, True), (False, False)):
        across = np.linspace(right - width, right, 64) if at_right else np.linspace(left, left + width, 64)
        bottom = level if above else level - height
        hit = sum(_inside(x, y, across, bottom, bottom + height) for x, y in lines)
        if not above and bottom < low - 0.05 * (high - low):
            hit += 64  # under the axis
        if best is None or hit < best[0]:
            best = hit, at_right, above
    assert best is not None
    return best[1:]


def _drawn(curve: Curve, log: bool) -> np.ndarray:
    return np.isfinite(curve.y) & ((curve.y > 0) | (not log))


def _inside(x: np.ndarray, y: np.ndarray, across: np.ndarray, bottom: float, top: float) -> int:
    """Of places `across`, how many a curve passes between `bottom` and `top`; a noisy one where any of its points lie."""
    at = np.interp(across, x, y, left=np.nan, right=np.nan)
    within = (x >= across[0]) & (x <= across[-1])
    return int(((at > bottom) & (at < top)).sum() + ((y[within] > bottom) & (y[within] < top)).sum())
