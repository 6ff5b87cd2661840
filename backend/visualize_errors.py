"""Reconstruction errors of a checkpoint: by variable, their distribution, by time, and whether the uncertainty is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from backend.plots import GRID, INK, caption, nothing
from shared import reconstruction_stats as stats

if TYPE_CHECKING:
    from backend.visualize_checkpoint import Seen

MOST_VARIABLES = 40
NO_STD = "The decoder predicts no uncertainty"


def events_of(seen: Seen) -> pd.DataFrame:
    """The events with a reconstruction, with their hour."""
    events = seen.result.reconstruction
    return events[np.isfinite(events["error_in_std"])].assign(hour=lambda frame: frame["minute"] / 60)


def by_variable_chart(axes: Axes, seen: Seen) -> None:
    """The worst variables first."""
    caption(axes, "Error by variable", "Median and root mean square of the error, in standard deviations of the variable: 1 is as good "
            "as always saying its mean.", 90)  # fmt: skip
    frame = stats.by_variable(events_of(seen))
    frame = frame[frame["modelled"] > 0].sort_values("rmse_std").tail(MOST_VARIABLES)
    if frame.empty:
        nothing(axes, "No reconstructed events")
        return
    at = np.arange(len(frame))
    axes.hlines(at, frame["median_std"], frame["rmse_std"], color="#B8BEC8", linewidth=1.5)
    axes.scatter(frame["median_std"], at, s=16, color=INK["training"], label="median", zorder=3)
    axes.scatter(frame["rmse_std"], at, s=16, color=INK["probe"], marker="D", label="root mean square", zorder=3)
    axes.axvline(1.0, color=INK["limit"], linestyle="--", linewidth=1)
    names = [f"{name}*" if few else name for name, few in zip(frame.index, frame["events"] < stats.FEW, strict=True)]
    axes.set_yticks(at, names, fontsize=min(8.0, 260 / len(frame)))
    axes.set_xlim(left=0)
    axes.set_xlabel("standard deviations" + (f"   (* fewer than {stats.FEW} events)" if any("*" in n for n in names) else ""))
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.legend(frameon=False, loc="lower right")


def distribution_chart(axes: Axes, seen: Seen) -> None:
    """All errors, and what the decoder expects of them."""
    caption(axes, "Distribution of the errors", "Reconstructed minus observed, in standard deviations; dashed: what the predicted "
            "uncertainty says they should be.", 90)  # fmt: skip
    events = events_of(seen)
    if events.empty:
        nothing(axes, "No reconstructed events")
        return
    errors = events["error_in_std"].to_numpy(float)
    axes.hist(errors, bins=100, range=(-5, 5), density=True, color=INK["training"], alpha=0.6, label="errors")
    spread = stats.predicted_spread(events)
    spread = spread[np.isfinite(spread) & (spread > 0)][:20_000]
    if len(spread):
        at = np.linspace(-5, 5, 201)
        axes.plot(at, stats.normal_density(at, spread), color=INK["probe"], linestyle="--", label="as predicted")
    axes.set_xlim(-5, 5)
    axes.set_xlabel("error, standard deviations")
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    beyond = float((np.abs(errors) > 5).mean())
    if beyond:
        axes.annotate(f"{beyond:.2%} beyond the axis", (1, 1), xycoords="axes fraction", ha="right", va="top", fontsize=7,
                      color=INK["note"], xytext=(0, -30), textcoords="offset points")  # fmt: skip


def by_time_chart(axes: Axes, seen: Seen) -> None:
    """The size of errors while a stay goes on."""
    caption(axes, "Error by time since admission", "Median and middle half of the size of the errors.", 90)
    frame = stats.by_time(events_of(seen))
    if frame.empty:
        nothing(axes, "No reconstructed events")
        return
    middle = (frame["start"] + frame["end"]) / 2
    axes.fill_between(middle, frame["low"], frame["high"], color=INK["training"], alpha=0.15, linewidth=0, label="middle half")
    axes.plot(middle, frame["median"], color=INK["training"], marker="o", markersize=3, label="median")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hours since admission")
    axes.set_ylabel("|error|, standard deviations")
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.legend(frameon=False)


def calibration_chart(axes: Axes, seen: Seen) -> None:
    """Whether intervals hold as many values as they say."""
    caption(
        axes, "Calibration of the uncertainty", "Below the diagonal the decoder is too sure of itself, above it too unsure.", 90
    )
    z = stats.z_scores(events_of(seen))
    frame = stats.coverage(z)
    if not np.isfinite(z).any():
        nothing(axes, NO_STD)
        return
    axes.plot([0, 1], [0, 1], color=INK["note"], linestyle=":", linewidth=1)
    axes.plot(frame["level"], frame["inside"], color=INK["training"], marker="o", markersize=4)
    axes.set_xlabel("nominal share of values inside a central interval")
    axes.set_ylabel("share that is inside")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.grid(color=GRID, linewidth=0.7)
