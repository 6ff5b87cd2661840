"""UMAP frames of a run's snapshots, worked out one from the other so that they can be compared, kept with the run as they come.

The first frame starts from the principal plane. Every other starts from the finished layout of the snapshot nearest to it in
training and descends from there at a tenth of the usual rate, then is turned onto it. On 1,271 sets of 128 patients and seven
snapshots, points move from frame to frame by 0.15 of the layout's radius on average, against 0.52 when every frame is made by
itself and then turned, and 0.13 with umap-learn's AlignedUMAP, which took ten times as long and has to be done anew for each
snapshot that is added. Trustworthiness is hardly less than in frames made by themselves: 0.976 to 0.997, against 0.986 to 0.997.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from backend.umap_layout import (
    kept_neighbours,
    layout,
    neighbours,
    principal,
    started_from,
    turned_onto,
)
from shared.embedding import LEAST_POINTS, Embedding, Frame, read_embedding, write_embedding
from shared.embedding import PARAMETERS as PROCEDURE
from shared.errors import InputError
from shared.latents import Of, fingerprint, read_latents

FOLLOWING_RATE = 0.1
FOLLOWING_EPOCHS = 200
MOST_POINTS = 20_000
"""Beyond it a fixed sample is laid out: exact neighbours take time that grows with the square."""
WRITE_EVERY_S = 3.0

Told = Callable[[str, float], None]
"""Hears what is being done and the share of all that is done"""
LeftOut = Callable[[int, str], None]
"""Hears the step of a snapshot that cannot be read, and why"""


def make_frames(
    sources: Mapping[int, Path], of: Of, target: Path, first: int, library: str, told: Told,
    left_out: LeftOut = lambda step, why: None,
) -> int:  # fmt: skip
    """Lay out the snapshots `sources` (step to path) into `target`, `first` before the others; returns how many were new.

    A snapshot that cannot be read is left out: training may have thinned it away, or be writing it.

    Frames there already are kept, as long as their snapshot is the same and so are library and procedure. The file is written
    again every few seconds, so that finished frames can be looked at.

    Raises:
        InputError: no snapshot can be read, or none of them has enough points. What `left_out` raises ends the work too.
    """
    inputs, unread = _fingerprints(sources, left_out)
    known = _read_or_none(target)
    frames = _still_good(known, inputs, library)
    if inputs and known is not None and len(frames) == len(inputs) == len(known.frames):
        return 0
    missing = sorted(set(inputs) - set(frames))
    total, written, too_few, before = len(missing), -math.inf, dict[int, int](), len(frames)
    for number, (step, near) in enumerate(_in_order(missing, frames, first)):
        try:
            frame, points = _make(sources[step], of, inputs[step], near, frames, _counting(told, step, number, total))
        except InputError as error:
            unread.append(str(error))
            left_out(step, str(error))
            continue
        if frame is None:
            too_few[step] = points
            continue
        frames[step] = frame
        if time.monotonic() - written > WRITE_EVERY_S:
            _write(target, frames, library)
            written = time.monotonic()
    if not frames:
        raise InputError(_why_none(of, too_few) if too_few or not unread else unread[0])
    _write(target, frames, library)
    return len(frames) - before


def _write(target: Path, frames: Mapping[int, Frame], library: str) -> None:
    write_embedding(target, dict(sorted(frames.items())), library)


def _fingerprints(sources: Mapping[int, Path], left_out: LeftOut) -> tuple[dict[int, str], list[str]]:
    """Step to fingerprint of the snapshots that are there, and why others cannot be read."""
    found, unread = {}, []
    for step, path in sources.items():
        try:
            found[step] = fingerprint(path)
        except OSError as error:
            unread.append(f"{path}: cannot be read ({error.strerror})")
            left_out(step, unread[-1])
    return found, unread


def _why_none(of: Of, too_few: Mapping[int, int]) -> str:
    most = max(too_few.values(), default=0)
    if of == "states" and most == 0:
        return (
            "the snapshots hold no states: the model has no sequence part, or the run is of an older release; try --of latents"
        )
    return f"too few points for UMAP: {most} sets with finite {of}, at least {LEAST_POINTS} are needed; look at PCA instead"


def _in_order(missing: list[int], frames: Mapping[int, Frame], first: int) -> Iterator[tuple[int, int | None]]:
    """The asked-for step at once, then whatever is nearest to a finished frame; each with the step of that frame.

    `frames` grows meanwhile. The first of all has no frame to start from.
    """
    while missing:
        done = list(frames) or [first]
        step = first if first in missing else min(missing, key=lambda step: min(abs(step - other) for other in done))
        missing.remove(step)
        yield step, min(frames, key=lambda other: abs(other - step), default=None)


def _counting(told: Told, step: int, number: int, total: int) -> Callable[[str, float], None]:
    what = f"step {step:,}" if step >= 0 else "checkpoint"
    return lambda phase, share: told(f"{phase}, {what} ({number + 1} of {total})", (number + share) / total)


def _make(
    path: Path, of: Of, input: str, near: int | None, frames: Mapping[int, Frame], told: Told
) -> tuple[Frame | None, int]:
    """One frame, and the number of points there were."""
    sets = read_latents(path)
    places, X = sets.points(of)
    if len(X) < LEAST_POINTS:
        return None, len(X)
    if len(X) > MOST_POINTS:
        chosen = np.sort(np.random.default_rng(0).permutation(len(X))[:MOST_POINTS])
        places, X = places[chosen], X[chosen]
    rows = sets.row[places]
    told("finding neighbours", 0.0)
    found = neighbours(X)
    other = frames[near] if near is not None else None
    shared = _shared(rows, other.rows) if other is not None else (np.empty(0, int),) * 2
    if other is None or 2 * len(shared[0]) < len(rows):
        near = near if other is not None and len(shared[0]) >= 3 else None
        placed = layout(X, found, principal(X), told=lambda share: told("laying out", 0.1 + 0.9 * share))
    else:
        start = started_from(other.xy, shared, found)
        placed = layout(
            X, found, start, rate=FOLLOWING_RATE, epochs=FOLLOWING_EPOCHS,
            told=lambda share: told("laying out", 0.1 + 0.9 * share),
        )  # fmt: skip
    if other is not None:
        placed = turned_onto(placed, other.xy, shared)
    return Frame(input, rows, placed, kept_neighbours(found, placed), near), len(X)


def _shared(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in both of the rows that both have."""
    _, mine, theirs = np.intersect1d(rows, others, return_indices=True)
    return mine, theirs


def _read_or_none(path: Path) -> Embedding | None:
    """What is there; a broken or unknown file is as good as none, and is replaced."""
    try:
        return read_embedding(path)
    except InputError:
        return None


def _still_good(known: Embedding | None, inputs: Mapping[int, str], library: str) -> dict[int, Frame]:
    if known is None or known.library != library or known.parameters != PROCEDURE:
        return {}
    return {step: frame for step, frame in known.frames.items() if inputs.get(step) == frame.input}
