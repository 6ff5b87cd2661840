"""Thinning a long curve so that a picture of it does not change."""

import numpy as np

POINTS = 2000


def decimate(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about `points` of (x, y): the smallest and the largest y of each of points / 2 stretches, in order.

    Every spike survives, the first and the last point too. A NaN in a stretch survives as one NaN, so a gap stays a gap.
    """
    if len(x) <= points:
        return x, y
    inner = np.arange(1, len(x) - 1)
    stretches = max((points - 2) // 2, 1)
    edges = np.linspace(0, len(inner), stretches + 1).astype(np.int64)
    starts = edges[:-1][np.diff(edges) > 0]
    values = y[1:-1]
    missing = np.isnan(values)
    owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    keep = {0, len(x) - 1}
    for filled, reduce in ((np.inf, np.minimum), (-np.inf, np.maximum)):
        solid = np.where(missing, filled, values)
        best = reduce.reduceat(solid, starts)
        hit = np.flatnonzero((solid == best[owner]) & ~missing)
        _, first = np.unique(owner[hit], return_index=True)
        keep.update((inner[hit[first]]).tolist())
    gaps = np.flatnonzero(missing)
    if len(gaps):
        _, first = np.unique(owner[gaps], return_index=True)
        keep.update((inner[gaps[first]]).tolist())
    index = np.sort(np.fromiter(keep, dtype=np.int64))
    return x[index], y[index]
