"""Which variables a decoder expected in a set, against which occurred: how well its probabilities are calibrated. Numbers only."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

EDGES = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
"""Of the bins of predicted probability: finer at the low end, where most pairs of set and variable are."""
Z_95 = 1.96


@dataclass(frozen=True)
class Presence:
    """S sets by V variables: the predicted probability that a variable occurs in the set, and whether it did."""

    names: tuple[str, ...]
    stay: np.ndarray
    """[S], text"""
    hour: np.ndarray
    """Since admission, [S]"""
    probability: np.ndarray
    occurred: np.ndarray

    def of(self, stay: str) -> "Presence":
        """The sets of one stay, in order of time."""
        own = np.flatnonzero(self.stay == stay)
        own = own[np.argsort(self.hour[own], kind="stable")]
        return Presence(self.names, self.stay[own], self.hour[own], self.probability[own], self.occurred[own])


def reliability(presence: Presence) -> pd.DataFrame:
    """Predicted against observed: for each bin with pairs of set and variable, the mean `predicted` probability, the `observed`
    share, its 95 % Wilson interval (`low`, `high`; pairs taken as independent) and the number of `pairs`.
    """
    probability, occurred = presence.probability.ravel(), presence.occurred.ravel()
    known = np.isfinite(probability)
    probability, occurred = probability[known].astype(float), occurred[known]
    group = np.clip(np.searchsorted(EDGES, probability, side="right") - 1, 0, len(EDGES) - 2)
    bins = len(EDGES) - 1
    pairs = np.bincount(group, minlength=bins)
    n = np.maximum(pairs, 1)
    share = np.bincount(group, weights=occurred, minlength=bins) / n
    middle = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * np.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))
    frame = pd.DataFrame(
        {"predicted": np.bincount(group, weights=probability, minlength=bins) / n, "observed": share,
         "low": np.clip(middle - half, 0, 1), "high": np.clip(middle + half, 0, 1), "pairs": pairs}
    )  # fmt: skip
    return frame[frame["pairs"] > 0]


def skill(presence: Presence) -> pd.DataFrame:
    """How much better than the variable's own frequency the probabilities are, by variable.

    `skill` is 1 - Brier score / Brier score of always predicting the share of sets it `occurs` in (of these very sets); 1 is
    perfect, 0 no better than that share, NaN where a variable occurs in all sets or in none. `sets` in which it occurred.
    """
    truth = presence.occurred.astype(float)
    occurs = truth.mean(axis=0) if len(truth) else np.full(len(presence.names), np.nan)
    brier = ((presence.probability - truth) ** 2).mean(axis=0) if len(truth) else occurs
    reference = occurs * (1 - occurs)
    value = np.where(reference > 0, 1 - brier / np.where(reference > 0, reference, 1), np.nan)
    index = pd.Index(presence.names, name="variable")
    return pd.DataFrame({"skill": value, "occurs": occurs, "sets": presence.occurred.sum(axis=0)}, index=index)
