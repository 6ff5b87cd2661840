"""Where the points of a latent map lie: by PCA at once, by UMAP where that was worked out. The same axes for all snapshots of a run."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dashboard.latent.data import Kept, Source, input_of, remembered, sets_of, version
from shared.embedding import OF_CHECKPOINT, Embedding, Frame, read_embedding
from shared.errors import InputError
from shared.latents import LatentSets, Of
from shared.layout import RunLayout

MOST_IN_BASIS = 5
"""Snapshots that the common axes are taken from: the first, the last and some between them."""


PLANES = Kept(64)


@dataclass(frozen=True)
class Plane:
    """Places of n of a snapshot's sets."""

    index: np.ndarray
    """[n] which sets"""
    xy: np.ndarray
    """[n, 2]"""
    axes: tuple[str, str]
    """Titles"""
    span: tuple[np.ndarray, np.ndarray]
    """Lowest and highest coordinates of all snapshots that share the axes, each [2]"""
    note: str = ""
    """How good the picture is"""


@dataclass(frozen=True)
class Moments:
    """Mean [D] and covariance [D, D] of one snapshot."""

    mean: np.ndarray
    covariance: np.ndarray


def _moments(path: Path, of: Of) -> Moments | None:
    _, X = sets_of(path).points(of)
    if len(X) < 3:
        return None
    mean = X.mean(axis=0)
    centred = X - mean
    return Moments(mean, centred.T @ centred / (len(X) - 1))


@remembered(64)
def _latent_moments(path: Path) -> Moments | None:
    return _moments(path, "latents")


@remembered(64)
def _state_moments(path: Path) -> Moments | None:
    return _moments(path, "states")


@dataclass(frozen=True)
class Basis:
    """Two common axes [D, 2] and where they cross [D]."""

    axes: np.ndarray
    centre: np.ndarray
    snapshots: int

    def place(self, X: np.ndarray) -> np.ndarray:
        """[n, D] on the two axes, [n, 2]."""
        return X @ self.axes.astype(np.float32) - self.centre @ self.axes


def basis_of(paths: Sequence[Path], of: Of) -> Basis | None:
    """Principal axes of the mean covariance of several snapshots; None where none has enough points.

    The larger weight of each axis is positive, so that a picture is not mirrored by chance.
    """
    read = _latent_moments if of == "latents" else _state_moments
    found = [moments for path in paths if (moments := read(path)) is not None]
    found = [moments for moments in found if len(moments.mean) == len(found[-1].mean)]
    if not found:
        return None
    _, vectors = np.linalg.eigh(np.mean([m.covariance for m in found], axis=0, dtype=np.float64))
    axes = vectors[:, ::-1][:, :2] if len(vectors) > 1 else np.array([[1.0, 0.0]])
    heaviest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[heaviest, [0, 1]] < 0, -1.0, 1.0)
    return Basis(axes, np.stack([m.mean for m in found]).mean(axis=0, dtype=np.float64), len(found))


def chosen_for_basis(sources: Sequence[Source]) -> list[Source]:
    """The first, the last and some evenly between them."""
    places = np.unique(np.linspace(0, len(sources) - 1, min(len(sources), MOST_IN_BASIS)).round().astype(int))
    return [sources[place] for place in places]


def pca(source: Source, others: Sequence[Source], of: Of) -> Plane | None:
    """A snapshot on the axes it has in common with `others`, of which it is one; None with fewer than three points.

    Raises:
        InputError: the snapshot cannot be read.
    """
    spread = readable(chosen_for_basis(others))
    return PLANES.once(
        (of, version(source.latents), *(version(other.latents) for other in spread)), lambda: _pca(source, spread, of)
    )


def readable(sources: Sequence[Source]) -> list[Source]:
    """Those that can be read: one broken snapshot does not take the others with it."""
    found = []
    for source in sources:
        with contextlib.suppress(InputError):
            sets_of(source.latents)
            found.append(source)
    return found


def _pca(source: Source, others: Sequence[Source], of: Of) -> Plane | None:
    basis = basis_of([other.latents for other in others], of)
    index, X = sets_of(source.latents).points(of)
    if basis is None or len(X) < 3 or X.shape[1] != len(basis.centre):
        return None
    xy = basis.place(X)
    own = (_latent_moments if of == "latents" else _state_moments)(source.latents)
    total = float(np.trace(own.covariance)) if own is not None else 0.0
    shares = xy.var(axis=0, ddof=1) / total if total > 0 else np.zeros(2)
    titles = (f"principal axis 1 ({shares[0]:.0%} of the variance)", f"principal axis 2 ({shares[1]:.0%} of the variance)")
    spread = [_extent(other, basis, of) for other in others if other != source]
    low = np.min([xy.min(axis=0), *(one[0] for one in spread if one is not None)], axis=0)
    high = np.max([xy.max(axis=0), *(one[1] for one in spread if one is not None)], axis=0)
    return Plane(index, xy, titles, (low, high), f"The two axes show {shares.sum():.0%} of the variance.")


def _extent(source: Source, basis: Basis, of: Of) -> tuple[np.ndarray, np.ndarray] | None:
    _, X = sets_of(source.latents).points(of)
    if len(X) < 3 or X.shape[1] != len(basis.centre):
        return None
    xy = basis.place(X)
    return xy.min(axis=0), xy.max(axis=0)


@remembered(8)
def embedding_of(path: Path) -> Embedding | None:
    """All UMAP frames of a file; None where there is none. Raises InputError."""
    return read_embedding(path)


@dataclass(frozen=True)
class Known:
    """What there is of UMAP for a snapshot."""

    frame: Frame | None
    """None where it has to be made"""
    stale: bool = False
    """There is one, of another input or procedure"""
    problem: str | None = None
    steps: tuple[int, ...] = ()
    """All that are laid out"""


def umap_known(layout: RunLayout, source: Source, of: Of) -> Known:
    """Look for the frame of a snapshot among the run's results."""
    try:
        embedding = embedding_of(layout.umap(of, source.checkpoint))
    except InputError as error:
        return Known(None, problem=str(error))
    if embedding is None:
        return Known(None)
    step = OF_CHECKPOINT if source.step is None else source.step
    frame = embedding.valid(step, input_of(source.latents))
    return Known(frame, stale=frame is None and step in embedding.frames, steps=tuple(embedding.frames))


def umap_plane(layout: RunLayout, source: Source, of: Of, frame: Frame, sets: LatentSets) -> Plane:
    """A frame as places of the sets of its snapshot."""
    place = {row: at for at, row in enumerate(sets.row.tolist())}
    index = np.array([place[row] for row in frame.rows.tolist()], np.int64)
    embedding = embedding_of(layout.umap(of, source.checkpoint))
    every = [frame.xy] if embedding is None else [one.xy for one in embedding.frames.values()]
    low, high = np.min([xy.min(axis=0) for xy in every], axis=0), np.max([xy.max(axis=0) for xy in every], axis=0)
    note = f"{frame.kept:.0%} of the nearest neighbours in the full space are neighbours here too."
    return Plane(index, frame.xy, ("UMAP 1 (no unit)", "UMAP 2 (no unit)"), (low, high), note)
