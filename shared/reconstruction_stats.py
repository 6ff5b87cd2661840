"""What reconstruction errors amount to: by variable, time and patient, and whether predicted uncertainty is right. Numbers only.

`z` is (observed - reconstructed) / predicted standard deviation: standard normal where the decoder's uncertainty is right.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

FEW = 20
"""Below so many events a figure is marked: the 95 % interval of a share of one half is then wider than 0.4."""
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Nominal coverage of central intervals."""
HOURS = (0.25, 0.5, 1, 2, 3, 4, 6, 12, 24, 48, 72, 168, 336, 720)
"""Widths of time bins, in hours."""
MOST_BINS = 24
NORMAL = NormalDist()


def group_quantiles(group: np.ndarray, values: np.ndarray, groups: int, shares: Sequence[float]) -> np.ndarray:
    """Quantiles [groups, shares] of values [N] by group [N], linear between neighbours; NaN values left out, NaN for no value."""
    known = np.isfinite(values)
    group, values = group[known], values[known]
    values = values[np.lexsort((values, group))]
    count = np.bincount(group, minlength=groups)
    first = np.cumsum(count) - count
    place = np.clip(count - 1, 0, None)[:, None] * np.asarray(shares)
    low = np.floor(place).astype(np.int64)
    high = np.ceil(place).astype(np.int64)
    if not len(values):
        return np.full(place.shape, np.nan)
    below, above = (values[np.minimum(first[:, None] + at, len(values) - 1)] for at in (low, high))
    return np.where(count[:, None] > 0, below + (above - below) * (place - low), np.nan)


def _mean(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    known = np.isfinite(values)
    count = np.bincount(group[known], minlength=groups)
    total = np.bincount(group[known], weights=values[known], minlength=groups)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def z_scores(events: pd.DataFrame) -> np.ndarray:
    """z of each event, [N]; NaN where value or uncertainty is not modelled."""
    return -(events["error"] / events["std"]).to_numpy(float)


def by_variable(events: pd.DataFrame) -> pd.DataFrame:
    """One line for each variable that occurs, by name.

    `events`, `modelled` (those with a reconstruction), then in the variable's unit the quartiles of the absolute error (`low`,
    `median`, `high`), `rmse` and `bias` (mean of reconstructed - observed), the same in standard deviations of the variable
    (`median_std`, `rmse_std`, `bias_std`), and `within`, the share of values inside their central 95 % interval.
    """
    variable = events["variable"].cat
    group, groups = variable.codes.to_numpy().astype(np.int64), len(variable.categories)
    error, in_std = events["error"].to_numpy(float), events["error_in_std"].to_numpy(float)
    z = z_scores(events)
    quartiles = group_quantiles(group, np.abs(error), groups, (0.25, 0.5, 0.75))
    inside = np.where(np.isfinite(z), np.abs(z) <= NORMAL.inv_cdf(0.975), np.nan)
    frame = pd.DataFrame(
        {
            "events": np.bincount(group, minlength=groups),
            "modelled": np.bincount(group[np.isfinite(error)], minlength=groups),
            "low": quartiles[:, 0],
            "median": quartiles[:, 1],
            "high": quartiles[:, 2],
            "rmse": np.sqrt(_mean(group, error**2, groups)),
            "bias": _mean(group, error, groups),
            "median_std": group_quantiles(group, np.abs(in_std), groups, (0.5,))[:, 0],
            "rmse_std": np.sqrt(_mean(group, in_std**2, groups)),
            "bias_std": _mean(group, in_std, groups),
            "within": _mean(group, inside, groups),
        },
        index=pd.Index(variable.categories.astype(str), name="variable"),
    )
    return frame[frame["events"] > 0]


def by_patient(events: pd.DataFrame) -> pd.DataFrame:
    """One line for each stay, the worst first: `events`, `hours` (last event), mean `error` and `rmse` in standard deviations,
    `within` (95 % interval) and `worst`, the variable with the largest mean error. Stays without any modelled value are left out.
    """
    stay, variable = events["stay"].cat, events["variable"].cat
    group, groups = stay.codes.to_numpy().astype(np.int64), len(stay.categories)
    size = np.abs(events["error_in_std"].to_numpy(float))
    z = z_scores(events)
    pair = group * len(variable.categories) + variable.codes.to_numpy()
    each = _mean(pair, size, groups * len(variable.categories)).reshape(groups, -1)
    last = np.full(groups, -np.inf)
    np.maximum.at(last, group, events["hour"].to_numpy(float))
    frame = pd.DataFrame(
        {
            "events": np.bincount(group, minlength=groups),
            "hours": last,
            "error": _mean(group, size, groups),
            "rmse": np.sqrt(_mean(group, size**2, groups)),
            "within": _mean(group, np.where(np.isfinite(z), np.abs(z) <= NORMAL.inv_cdf(0.975), np.nan), groups),
            "worst": variable.categories.to_numpy().astype(str)[np.nan_to_num(each, nan=-1).argmax(axis=1)],
        },
        index=pd.Index(stay.categories.astype(str), name="stay"),
    )
    return frame[frame["error"].notna()].sort_values("error", ascending=False)


def by_time(events: pd.DataFrame) -> pd.DataFrame:
    """Quartiles of the absolute error in standard deviations over hours since admission, in at most 24 bins of a round width.

    One line for each bin with an event: its edges `start` and `end` in hours, `low`, `median`, `high` and `events`.
    """
    size, hour = np.abs(events["error_in_std"].to_numpy(float)), events["hour"].to_numpy(float)
    known = np.isfinite(size) & np.isfinite(hour)
    size, hour = size[known], hour[known]
    if not len(size):
        return pd.DataFrame(columns=["start", "end", "low", "median", "high", "events"], dtype=float)
    first = min(float(hour.min()), 0.0)
    span = float(hour.max()) - first
    width = next((width for width in HOURS if span < width * MOST_BINS), max(HOURS[-1], span / MOST_BINS * 1.001))
    start = np.floor(first / width) * width
    bins = ((hour - start) // width).astype(np.int64)
    count = int(bins.max()) + 1
    quartiles = group_quantiles(bins, size, count, (0.25, 0.5, 0.75))
    edge = start + width * np.arange(count)
    frame = pd.DataFrame(
        {"start": edge, "end": edge + width, "low": quartiles[:, 0], "median": quartiles[:, 1], "high": quartiles[:, 2],
         "events": np.bincount(bins, minlength=count)}
    )  # fmt: skip
    return frame[frame["events"] > 0]


def coverage(z: np.ndarray) -> pd.DataFrame:
    """Of each nominal `level`, the share of values inside that central interval: `inside`, and `events`."""
    size = np.abs(z[np.isfinite(z)])
    limits = np.array([NORMAL.inv_cdf((1 + level) / 2) for level in LEVELS])
    inside = (size[:, None] <= limits).mean(axis=0) if len(size) else np.full(len(LEVELS), np.nan)
    return pd.DataFrame({"level": LEVELS, "inside": inside, "events": len(size)})


def pit(z: np.ndarray, bins: int = 20) -> np.ndarray:
    """Probability integral transform of the observed values under their predicted normal, as counts of equal bins of [0, 1].

    Dawid 1984: uniform where the predicted distributions are right. The bins are cut where z has the same quantiles.
    """
    inner = [NORMAL.inv_cdf(edge / bins) for edge in range(1, bins)]
    return np.histogram(z[np.isfinite(z)], np.array([-np.inf, *inner, np.inf]))[0]


def normal_density(at: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Mean density at [B] of normal distributions around 0, one for each spread [N]."""
    scaled = at[:, None] / spread
    return (np.exp(-0.5 * scaled**2) / (spread * np.sqrt(2 * np.pi))).mean(axis=1)


def predicted_spread(events: pd.DataFrame) -> np.ndarray:
    """The predicted standard deviation of each event in standard deviations of its variable, [N]; NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (events["error"] / events["error_in_std"]).to_numpy(float)
    group = events["variable"].cat.codes.to_numpy().astype(np.int64)
    of_variable = group_quantiles(group, scale, len(events["variable"].cat.categories), (0.5,))[:, 0]
    return events["std"].to_numpy(float) / of_variable[group]
