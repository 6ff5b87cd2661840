"""Sets of a checkpoint in the plane, coloured by outcome, time and error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from backend.plots import INK, caption, nothing

if TYPE_CHECKING:
    from backend.visualize_checkpoint import Seen

ANSWERS = ((0.0, "no", INK["training"], "o"), (1.0, "yes", INK["probe"], "^"))
UNKNOWN = "#D1D5DB"
DOT = 7


def by_outcome(axes: Axes, seen: Seen) -> None:
    """UMAP by the outcome of the stay."""
    placed = _placed(axes, seen, "UMAP by outcome", "Neighbours in latent space are neighbours here; distances between groups "
                     "mean little.")  # fmt: skip
    if placed is not None:
        rows, xy = placed
        outcome_dots(axes, xy, seen.sets.outcome[rows], seen.label)


def by_hour(axes: Axes, seen: Seen) -> None:
    """UMAP by hours since admission."""
    placed = _placed(axes, seen, "UMAP by time", "Does a latent move while the stay goes on?")
    if placed is not None:
        rows, xy = placed
        _coloured(axes, xy, seen.sets.minute[rows] / 60, "hours since admission")


def by_error(axes: Axes, seen: Seen) -> None:
    """UMAP by reconstruction error of the set."""
    placed = _placed(axes, seen, "UMAP by reconstruction error", "Where are the sets that the model cannot reconstruct?")
    if placed is None:
        return
    rows, xy = placed
    errors = error_of_sets(seen)[rows]
    if not np.isfinite(errors).any():
        nothing(axes, "No reconstruction of these sets")
        return
    known = np.isfinite(errors)
    if not known.all():
        dots(axes, xy[~known], color=UNKNOWN, label=f"not among the sets whose events are kept ({(~known).sum():,})")
        axes.legend(frameon=False, markerscale=2, loc="best")
    _coloured(axes, xy[known], errors[known], "root mean square error, standard deviations")


def principal_plane(axes: Axes, seen: Seen) -> None:
    """The two directions of largest variance."""
    rows, points = seen.sets.points("latents")
    caption(axes, "Principal components by outcome", "A linear view of the same latents; here distances do mean something.", 90)
    if len(rows) < 3 or points.shape[1] < 2:
        nothing(axes, "Too few sets or dimensions")
        return
    centred = points.astype(float) - points.mean(axis=0)
    _, size, directions = np.linalg.svd(centred, full_matrices=False)
    share = size**2 / max(float((size**2).sum()), 1e-30)
    outcome_dots(axes, centred @ directions[:2].T, seen.sets.outcome[rows], seen.label)
    axes.set_xlabel(f"first component ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({share[1]:.0%})")


def dots(axes: Axes, xy: np.ndarray, **options: Any) -> PathCollection:
    """Points [N, 2]."""
    return axes.scatter(xy[:, 0], xy[:, 1], s=DOT, linewidths=0, **options)


def outcome_dots(axes: Axes, xy: np.ndarray, outcome: np.ndarray, name: str) -> None:
    """Points [N, 2] by outcome [N]; the rarer on top, those of unknown outcome in grey."""
    unknown = ~np.isfinite(outcome)
    if unknown.any():
        dots(axes, xy[unknown], color=UNKNOWN, label=f"unknown ({unknown.sum():,})")
    for value, answer, colour, marker in sorted(ANSWERS, key=lambda one: -int((outcome == one[0]).sum())):
        own = outcome == value
        if own.any():
            dots(axes, xy[own], color=colour, marker=marker, alpha=0.6, label=f"{name}: {answer} ({own.sum():,})")
    axes.legend(frameon=False, markerscale=2, loc="best")


def error_of_sets(seen: Seen) -> np.ndarray:
    """Root mean square error of each set in standard deviations, [N]; NaN where it was not decoded."""
    events = seen.result.reconstruction
    events = events[np.isfinite(events["error_in_std"])]
    square = events["error_in_std"].astype(float) ** 2
    mean = square.groupby([events["stay_id"].astype(str), events["minute"].astype(float)]).mean()
    known = {place: float(value) ** 0.5 for place, value in mean.items()}
    return np.array(
        [known.get((stay, float(minute)), np.nan) for stay, minute in zip(seen.sets.stay, seen.sets.minute, strict=True)]
    )


def _placed(axes: Axes, seen: Seen, title: str, text: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Places [n] among the sets and their points [n, 2]; None, and said, where there is no layout."""
    caption(axes, title, text, 90)
    if isinstance(seen.umap, str):
        nothing(axes, seen.umap)
        return None
    place = {int(row): i for i, row in enumerate(seen.sets.row)}
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("UMAP 1")
    axes.set_ylabel("UMAP 2")
    return np.array([place[int(row)] for row in seen.umap.rows]), seen.umap.xy


def _coloured(axes: Axes, xy: np.ndarray, values: np.ndarray, label: str) -> None:
    low, high = np.percentile(values, [1, 99])
    order = np.argsort(values, kind="stable")
    drawn = dots(axes, xy[order], c=values[order], cmap="viridis", vmin=low, vmax=high, alpha=0.85)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.85, label=label).outline.set_visible(False)
