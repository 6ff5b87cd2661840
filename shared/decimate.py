"""Thinning a long curve so that a picture of it does not change, and smoothing it."""

import math

import numpy as np

POINTS = 2000


def decimate(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about `points` of (x, y): the smallest and the largest y of each of points / 2 equal stretches of x, in order.

    Every spike survives, the first and the last point too. A NaN in a stretch survives as one NaN, so a gap stays a gap.
    """
    if len(x) <= points:
        return x, y
    keep = extremes(x, y, max((points - 2) // 2, 1))
    keep[[0, -1]] = True
    return x[keep], y[keep]


def extremes(x: np.ndarray, y: np.ndarray, stretches: int) -> np.ndarray:
    """Mask of the first smallest, first largest and first missing y in each of `stretches` equal parts of the range of x."""
    owner = _owners(x, stretches)
    begins = np.diff(owner, prepend=-1) != 0
    starts, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    missing = np.isnan(y)
    keep = np.zeros(len(x), dtype=bool)
    for filled, reduce in ((np.inf, np.minimum), (-np.inf, np.maximum)):
        solid = np.where(missing, filled, y)
        keep[_firsts(np.flatnonzero((solid == reduce.reduceat(solid, starts)[group]) & ~missing), group)] = True
    keep[_firsts(np.flatnonzero(missing), group)] = True
    return keep


def _owners(x: np.ndarray, stretches: int) -> np.ndarray:
    """The stretch of each point; by place where x does not ascend, as in a log that somebody put together by hand."""
    if x[-1] <= x[0] or (np.diff(x) < 0).any():
        x = np.arange(len(x))
    return np.minimum((x - x[0]) * (stretches / (x[-1] - x[0])), stretches - 1).astype(np.int64)


def _firsts(places: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The first of `places` (ascending) in each group."""
    return places[np.diff(group[places], prepend=-1) != 0]


def smooth(x: np.ndarray, y: np.ndarray, span: float) -> np.ndarray:
    """Exponential moving average of y with time constant `span` in units of x, whatever the spacing; NaN stays NaN.

    Debiased: the first value is the first y. Weights decay with the distance in x, so thinning does not change the curve.
    """
    out, average, weight, last = np.full(len(y), np.nan), 0.0, 0.0, 0.0
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    for place, (at, value) in enumerate(pairs):
        if math.isnan(value):  # a gap, after which the average goes on
            continue
        decay = math.exp((last - at) / span) if weight else 0.0
        average, weight, last = decay * average + value, decay * weight + 1.0, at
        out[place] = average / weight
    return out
