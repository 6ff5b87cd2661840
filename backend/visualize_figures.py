"""The four pictures of a checkpoint: its posterior by dimension, its latent space, its reconstruction errors, its correlations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from backend.plots import GRID, HALO, INK, STYLE, caption, new_figure, nothing, save
from backend.visualize_errors import by_time_chart, by_variable_chart, calibration_chart, distribution_chart
from backend.visualize_space import by_error, by_hour, by_outcome, principal_plane
from shared.collapse import Thresholds
from shared.conditions import findings
from shared.metrics import PROBE
from shared.probes import History, Probe

if TYPE_CHECKING:
    from backend.visualize_checkpoint import Seen

KINDS = {"active": (INK["training"], "o"), "mixed": (INK["probe"], "s"), "passive": (INK["note"], "x")}
SUMMARY = (
    "kl",
    "mi_gauss",
    "prior_gap",
    "active_units",
    "latent_dims",
    "posterior_variance",
    "decoder_reliance",
    "explained",
    "recon",
)
NOT_FINITE = "No finite number: the weights of this checkpoint, or what they make of the data, are NaN or infinite"
Chart = Callable[[Axes, "Seen"], None]


def write_sheets(seen: Seen, out: Path) -> None:
    """Draw all four into the folder `out`. Raises OSError."""
    for name, draw in SHEETS.items():
        with mpl.rc_context(STYLE):
            save(draw(seen), out / name)


def grid(seen: Seen, charts: tuple[Chart, ...], columns: int, title: str, width: float = 5.0, height: float = 4.2) -> Figure:
    """Charts side by side under one title."""
    rows = -(-len(charts) // columns)
    figure = new_figure(width * columns, height * rows + 0.4)
    for axes, chart in zip(np.atleast_1d(figure.subplots(rows, columns)).flat, charts, strict=True):
        chart(axes, seen)
    figure.suptitle(f"{seen.title}: {title}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def posterior_sheet(seen: Seen) -> Figure:
    """Does each dimension still carry the patient?"""
    charts = (kl_chart, var_mu_chart, variance_chart, corner_chart, density_chart, summary_chart)
    return grid(seen, charts, 3, f"posterior, step {seen.step:,}", 4.8, 3.7)


def kl_chart(axes: Axes, seen: Seen) -> None:
    """KL of each dimension, split into information and the rest."""
    caption(axes, "KL of each dimension", "KL = information + prior gap, exactly. Dimensions near 0 carry nothing.")
    frame = seen.result.posterior.sort_values("kl", ascending=False)
    if not _finite(axes, frame["kl"]):
        return
    at = np.arange(len(frame))
    axes.bar(at, frame["mi_gauss"], width=0.9, color=INK["training"], label="information about the patient")
    axes.bar(at, frame["prior_gap"], width=0.9, bottom=frame["mi_gauss"], color="#B8BEC8", label="prior gap: no information")
    _dimensions(axes, "nats", "dimensions, by KL")
    axes.legend(frameon=False)


def var_mu_chart(axes: Axes, seen: Seen) -> None:
    """Variance of the means, with the limit of activity."""
    caption(axes, "Activity of each dimension", "Variance over patients of the posterior mean (Burda et al. 2016).")
    frame = seen.result.posterior.sort_values("var_mu", ascending=False)
    if not _finite(axes, frame["var_mu"]):
        return
    for kind, (colour, _) in KINDS.items():
        own = np.flatnonzero(frame["kind"] == kind)
        if len(own):
            axes.bar(own, frame["var_mu"].to_numpy()[own], width=0.9, color=colour, label=f"{kind} ({len(own)})")
    axes.set_yscale("log")
    limit = Thresholds.active_variance
    axes.axhline(limit, color=INK["limit"], linestyle="--", linewidth=1)
    axes.annotate(f"active above {limit:g}", (1, limit), xycoords=("axes fraction", "data"), xytext=(0, 2), ha="right", fontsize=7,
                  textcoords="offset points", color=INK["limit"], path_effects=HALO)  # fmt: skip
    _dimensions(axes, "Var(mu), relative to the prior", "dimensions, by Var(mu)")
    axes.legend(frameon=False)


def variance_chart(axes: Axes, seen: Seen) -> None:
    """Mean posterior variance of each dimension against its prior's."""
    caption(
        axes,
        "Posterior variance of each dimension",
        "Small means that the encoder is sure of it; 1 means that it says nothing.",
    )
    values = np.sort(seen.result.posterior["mean_variance"].to_numpy())
    if not _finite(axes, values):
        return
    axes.bar(np.arange(len(values)), values, width=0.9, color=INK["training"])
    axes.axhline(1.0, color=INK["limit"], linestyle="--", linewidth=1)
    axes.annotate("1 = as its prior: carries nothing", (0, 1.0), xycoords=("axes fraction", "data"), xytext=(2, 2), ha="left",
                  textcoords="offset points", fontsize=7, color=INK["limit"], path_effects=HALO)  # fmt: skip
    _dimensions(axes, "mean variance, relative to the prior", "dimensions, by variance")


def corner_chart(axes: Axes, seen: Seen) -> None:
    """Both variances against each other: a collapsed dimension sits in the corner of the prior."""
    caption(axes, "Where each dimension stands", "On the dotted line the aggregate posterior is as wide as the prior; its lower right "
            "end is collapse.")  # fmt: skip
    frame = seen.result.posterior
    if not _finite(axes, frame["mean_variance"] + frame["var_mu"]):
        return
    for kind, (colour, marker) in KINDS.items():
        own = frame[frame["kind"] == kind]
        axes.scatter(
            own["mean_variance"], own["var_mu"], s=22, color=colour, marker=marker, label=f"{kind} ({len(own)})", alpha=0.8
        )
    axes.plot([0, 1], [1, 0], color=INK["note"], linewidth=0.8, linestyle=":")
    axes.annotate("the prior", (1, 0), xytext=(-4, 10), textcoords="offset points", ha="right", fontsize=7, color=INK["limit"],
                  path_effects=HALO)  # fmt: skip
    axes.scatter([1], [0], marker="+", s=60, color=INK["limit"])
    axes.set_xlabel("mean variance, relative to the prior")
    axes.set_ylabel("Var(mu), relative to the prior")
    axes.grid(color=GRID, linewidth=0.7)
    axes.legend(frameon=False)


def density_chart(axes: Axes, seen: Seen) -> None:
    """All latents against the standard normal."""
    caption(axes, "Distribution of the means", "A spike at 0 is collapse: every patient has the same latent.")
    values = seen.sets.mu[np.isfinite(seen.sets.mu)]
    if not _finite(axes, values):
        return
    widest = max(3.5, float(np.abs(np.percentile(values, [0.5, 99.5])).max()))
    axes.hist(values, bins=80, range=(-widest, widest), density=True, color=INK["training"], alpha=0.6, label="posterior means")
    at = np.linspace(-widest, widest, 200)
    axes.plot(at, np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi), color=INK["note"], linestyle="--", label="standard normal")
    axes.set_xlabel("mu, all dimensions")
    axes.set_ylabel("density")
    axes.legend(frameon=False)


def summary_chart(axes: Axes, seen: Seen) -> None:
    """The figures, and the conditions that hold, in words."""
    nothing(axes, "")
    values = seen.result.values
    known = [name for name in SUMMARY if isinstance(values.get(name), int | float)]
    lines = [f"{PROBE[name].label:<22}{values[name]:>9,.4g} {PROBE[name].unit}" for name in known]
    axes.text(
        0.03, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", family="monospace", fontsize=8.5, color=INK["text"]
    )
    held = conditions(seen)
    words = "\n".join(f"- {title}" for title in held) or "None of the conditions that are alarmed of holds."
    axes.text(0.03, 0.03, words, transform=axes.transAxes, va="bottom", fontsize=8.5, wrap=True,
              color=INK["limit"] if held else INK["good"])  # fmt: skip
    caption(axes, "Figures of this checkpoint", "One evaluation: what holds here may pass. A verdict needs several in a row "
            "(python -m backend diagnose).")  # fmt: skip


def conditions(seen: Seen) -> list[str]:
    """Titles of the conditions that hold at this evaluation."""
    if not np.isfinite(seen.sets.mu).any():
        return [NOT_FINITE]
    probe = Probe.of({"step": seen.step, **seen.result.values})
    if probe is None or probe.patients < Thresholds.minimum_patients:
        return [f"Fewer than {Thresholds.minimum_patients} stays: nothing can be judged"]
    history = History(Thresholds(), None, None)
    history.add(probe, None)
    return [finding.title for finding in findings(history)]


def space_sheet(seen: Seen) -> Figure:
    """Where the sets lie."""
    charts = (by_outcome, by_hour, by_error, principal_plane)
    return grid(seen, charts, 2, f"latent space, step {seen.step:,}, {len(seen.sets.row):,} sets", 6.2, 5.2)


def error_sheet(seen: Seen) -> Figure:
    """How far reconstructions are off."""
    charts = (by_variable_chart, distribution_chart, by_time_chart, calibration_chart)
    return grid(seen, charts, 2, f"reconstruction errors, step {seen.step:,}", 6.2, 5.0)


def correlation_sheet(seen: Seen) -> Figure:
    """Which dimensions say the same."""
    return grid(seen, (correlation_chart, off_diagonal_chart), 2, f"correlation of latents, step {seen.step:,}", 6.4, 5.4)


def correlation(seen: Seen) -> np.ndarray:
    """Of the posterior means of all pictured sets, [D, D]; NaN for dimensions that do not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(seen.sets.mu.astype(float), rowvar=False))


def correlation_chart(axes: Axes, seen: Seen) -> None:
    """The matrix, dimensions by their KL."""
    caption(axes, "Correlation of the posterior means", "Off the diagonal, red or blue: two dimensions say the same thing.", 90)
    if not _finite(axes, seen.sets.mu):
        return
    order = np.argsort(-seen.result.posterior["kl"].to_numpy(), kind="stable")
    picture = axes.imshow(correlation(seen)[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.85, label="correlation")
    bar.outline.set_visible(False)
    axes.set_xlabel("dimensions, by KL")
    axes.set_ylabel("dimensions, by KL")


def off_diagonal_chart(axes: Axes, seen: Seen) -> None:
    """How strong the correlations are."""
    caption(axes, "Strength of the correlations", "A prior of independent dimensions asks for small ones.", 90)
    if not _finite(axes, seen.sets.mu):
        return
    matrix = correlation(seen)
    values = np.abs(matrix[np.triu_indices(len(matrix), 1)])
    values = values[np.isfinite(values)]
    if not len(values):
        nothing(axes, "There is but one dimension that varies")
        return
    axes.hist(values, bins=40, range=(0, 1), color=INK["training"], alpha=0.8)
    middle = float(np.median(values))
    axes.axvline(middle, color=INK["note"], linestyle="--", linewidth=1)
    axes.annotate(f"median {middle:.2f}", (middle, 0.97), xycoords=("data", "axes fraction"), xytext=(4, 0), fontsize=8, va="top",
                  textcoords="offset points", color=INK["note"], path_effects=HALO)  # fmt: skip
    axes.set_xlabel("|correlation| of two dimensions")
    axes.set_ylabel("pairs")


def _finite(axes: Axes, values: ArrayLike) -> bool:
    """Whether there is a number to draw; where there is none, that is said."""
    if np.isfinite(values).any():
        return True
    nothing(axes, NOT_FINITE)
    return False


def _dimensions(axes: Axes, unit: str, label: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel(unit)
    axes.set_xticks([])
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


SHEETS: dict[str, Callable[[Seen], Figure]] = {
    "posterior_collapse_analysis.png": posterior_sheet,
    "latent_space_umap.png": space_sheet,
    "reconstruction_errors.png": error_sheet,
    "latent_correlation.png": correlation_sheet,
}
