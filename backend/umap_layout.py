"""UMAP in pieces that start fast and can be followed: exact neighbours, a layout from a given start, one layout onto another.

umap-learn (McInnes, Healy, Melville 2018) is used by its functions for the fuzzy graph and for the descent. Its own way to find
neighbours takes half a minute to compile before the first picture; up to some ten thousand points, a matrix product finds the
exact ones in a second.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from shared.embedding import MIN_DIST, NEIGHBOURS, SEED

BLOCK = 1000
EXTENT = 10.0
"""Larger side of the layout that the descent starts from, as umap-learn has it."""
NEGATIVE_SAMPLES = 5
SMALL = 4096
"""Smaller layouts are given more epochs."""


@dataclass(frozen=True)
class Neighbours:
    """Each point's nearest points, itself first: [n, k] places and distances."""

    index: np.ndarray
    distance: np.ndarray


def neighbours(X: np.ndarray, k: int = NEIGHBOURS) -> Neighbours:
    """The exact `k` nearest of each of [n, D] float32, by Euclidean distance.

    Points are centred first: |x|^2 + |y|^2 - 2xy cancels where they share an offset that is large beside their distances.
    """
    X = X - X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    square = np.einsum("nd,nd->n", X, X)
    index, distance = np.empty((len(X), k), np.int32), np.empty((len(X), k), np.float32)
    for start in range(0, len(X), BLOCK):
        part = slice(start, start + BLOCK)
        d = square[part, None] + square - 2 * X[part] @ X.T
        own = np.arange(len(d))
        d[own, start + own] = -1  # rounding must not put another point before the point itself
        near = np.argpartition(d, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(d, near, axis=1)
        order = found.argsort(axis=1, kind="stable")
        index[part] = np.take_along_axis(near, order, axis=1)
        distance[part] = np.sqrt(np.maximum(np.take_along_axis(found, order, axis=1), 0))
    return Neighbours(index, distance)


def principal(X: np.ndarray) -> np.ndarray:
    """Coordinates of [n, D] along its two principal axes, scaled to `EXTENT`; a start for `layout`."""
    centred = X - X.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    plane = centred @ axes[:, ::-1][:, :2] if X.shape[1] > 1 else np.column_stack([centred, np.zeros(len(X))])
    noise = np.random.default_rng(SEED).normal(scale=1e-4, size=plane.shape)  # equal points would never part
    return (plane * (EXTENT / (2 * max(np.abs(plane).max(), 1e-12))) + noise).astype(np.float32)


def layout(
    X: np.ndarray, near: Neighbours, start: np.ndarray, *, rate: float = 1.0, epochs: int | None = None,
    told: Callable[[float], None] = lambda share: None,
) -> np.ndarray:  # fmt: skip
    """UMAP coordinates [n, 2] of [n, D] by descent from `start` at learning `rate`; `told` hears the share done.

    The same input gives the same layout: one thread, one seed. Unlike umap-learn's class it leaves the scale of `start` alone,
    so that a layout that starts from a finished one stays where it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm misses its widgets, numba its threads: no concern of who reads the log
        from umap.layouts import optimize_layout_euclidean
        from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample

        random = np.random.RandomState(SEED)
        graph = fuzzy_simplicial_set(
            X, near.index.shape[1], random, "euclidean", knn_indices=near.index, knn_dists=near.distance
        )[0].tocoo()  # fmt: skip
        epochs = epochs or (500 if len(X) < SMALL else 200)
        graph.data[graph.data < graph.data.max() / epochs] = 0
        graph.eliminate_zeros()
        a, b = find_ab_params(1.0, MIN_DIST)
        seed = random.randint(-(2**31) + 1, 2**31 - 1, 3).astype(np.int64)
        placed = np.array(start, np.float32, order="C")
        ticks = {"file": _Ticks(lambda epoch: told(epoch / epochs)), "bar_format": "{n}", "mininterval": 0.2, "disable": False}
        optimize_layout_euclidean(
            placed, placed, graph.row, graph.col, epochs, len(X), make_epochs_per_sample(graph.data, epochs), a, b, seed,
            initial_alpha=rate, negative_sample_rate=NEGATIVE_SAMPLES, tqdm_kwds=ticks, move_other=True,
        )  # fmt: skip
    return placed


class _Ticks(io.TextIOBase):
    """Takes the text of tqdm's bar, which is the number of the epoch, and tells it."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told

    def write(self, text: str) -> int:
        """Called by tqdm."""
        number = text.strip()
        if number.isdecimal():
            self._told(int(number))
        return len(text)


def turned_onto(xy: np.ndarray, other: np.ndarray, shared: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """`xy` [n, 2] rotated, reflected and moved, not scaled, so that shared points lie as near to those of `other` as can be.

    `shared` are their places in both. Orthogonal Procrustes (Schoenemann 1966); with fewer than three points in common nothing
    can be said, and `xy` stays as it is.
    """
    mine, theirs = xy[shared[0]], other[shared[1]]
    if len(mine) < 3:
        return xy
    u, _, vt = np.linalg.svd((mine - mine.mean(axis=0)).T.astype(float) @ (theirs - theirs.mean(axis=0)))
    return ((xy - mine.mean(axis=0)) @ (u @ vt) + theirs.mean(axis=0)).astype(np.float32)


def started_from(other: np.ndarray, shared: tuple[np.ndarray, np.ndarray], near: Neighbours) -> np.ndarray:
    """A start [n, 2] where shared points lie as in `other`, and new ones by their nearest neighbour that is known there."""
    start = np.full((len(near.index), 2), np.nan)
    start[shared[0]] = other[shared[1]]
    for row in np.flatnonzero(np.isnan(start[:, 0])):
        known = near.index[row][np.isfinite(start[near.index[row], 0])]
        start[row] = start[known[0]] if len(known) else other.mean(axis=0)
    noise = np.random.default_rng(SEED).normal(scale=1e-3, size=start.shape)
    return (start + noise).astype(np.float32)


def kept_neighbours(near: Neighbours, xy: np.ndarray) -> float:
    """Share of the nearest neighbours, a point itself left out, that are nearest neighbours in the layout too."""
    k = near.index.shape[1]
    _, drawn = cKDTree(xy).query(xy, k=k)
    own = np.arange(len(xy))[:, None]
    both = (near.index[:, :, None] == drawn[:, None, :]) & (drawn != own)[:, None, :]
    return float(both.any(axis=2)[:, 1:].mean())
