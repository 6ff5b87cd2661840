"""What the verdict rules know of a run so far: its probe evaluations, parsed, and what follows from them one by one."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.collapse import Thresholds
from shared.schedule import BetaSchedule

TREND_RATE = 0.3
"""Share of a new evaluation in a running mean: about three evaluations count."""
NOISE_RATE = 0.1
SLOW_RATE, GROWTH = 0.1, 1.3
"""Information grows where it is this much above its running mean over some ten evaluations."""
ALIVE_VARIANCE = 0.05
"""Var(mu) of a unit that is clearly alive: five times the limit, so that noise does not carry a dead one there."""


def number(row: Mapping[str, Any], name: str) -> float | None:
    """A finite number, or None for anything else."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float | np.number) and math.isfinite(value) else None


def nonfinite_names(row: Mapping[str, Any]) -> list[str]:
    """Rows that come from a frame hold NaN, which is true, where this row had nothing to report."""
    names = row.get("nonfinite")
    return [str(name) for name in names] if isinstance(names, list | tuple | np.ndarray) else []


@dataclass(frozen=True)
class Probe:
    """One evaluation; None is what it did not measure."""

    step: int
    kl: float
    information: float | None
    active: float | None
    dims: float | None
    patients: float
    variance: float | None
    recon: float | None
    reliance: float | None
    explained: float | None
    residual: float | None
    beta: float | None
    within_share: float | None
    levels: tuple[tuple[float, float], ...]
    """(share of active units, information) of each level, where there are several."""
    var_mu: np.ndarray | None
    """[D]"""
    unit_kl: np.ndarray | None = None
    """KL of each unit, in nats; [D]"""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Probe | None":
        """Parse a row of kind "probe"; None when it holds no KL."""
        kl = number(row, "kl")
        if kl is None:
            return None
        between, within = number(row, "var_between"), number(row, "var_within")
        moves = between is not None and within is not None and between + within > 0
        return cls(
            int(row["step"]), kl, number(row, "mi_gauss"), number(row, "active_units"), number(row, "latent_dims"),
            number(row, "patients") or 0.0, number(row, "posterior_variance"), number(row, "recon"),
            number(row, "decoder_reliance"), number(row, "explained"), number(row, "residual_eigenvalue"), number(row, "beta"),
            within / (between + within) if moves else None,  # type: ignore[operator]
            _levels(row), _per_dim(row, "var_mu"), _per_dim(row, "kl"),
        )  # fmt: skip


def _levels(row: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    found: list[tuple[float, float]] = []
    while (ratio := number(row, f"active_ratio_level_{len(found) + 1}")) is not None:
        found.append((ratio, number(row, f"mi_gauss_level_{len(found) + 1}") or 0.0))
    return tuple(found)


def _per_dim(row: Mapping[str, Any], name: str) -> np.ndarray | None:
    kept = row.get("per_dim")
    values = kept.get(name) if isinstance(kept, Mapping) else None
    return np.array(values, float) if isinstance(values, Sequence | np.ndarray) and len(values) else None


@dataclass
class Trend:
    """A running mean over a few evaluations, NaN before the first, and the noise of one: how far it is off the drift."""

    value: float = math.nan
    noise: float = 0.0
    rate: float = TREND_RATE
    count: int = 0
    _last: float = math.nan
    _drift: float = 0.0

    def add(self, value: float | None) -> float:
        """Take in a value, if there is one; the mean now."""
        if value is None:
            return self.value
        self.count += 1
        if self.count == 1:
            self.value = self._last = value
            return self.value
        away = value - self._last - self._drift
        usual = 3 * self.noise if self.count > 1 / NOISE_RATE else math.inf  # a jump is no noise
        self.noise += NOISE_RATE * (min(abs(away), usual) - self.noise)
        self._drift += NOISE_RATE * away
        self._last = value
        self.value += self.rate * (value - self.value)
        return self.value


@dataclass
class History:
    """All evaluations of a run, and what rules ask of the earlier ones, kept up to date at a constant cost each."""

    limits: Thresholds
    schedule: BetaSchedule | None
    max_steps: int | None
    lr_warmup: int = 0
    newest: Probe | None = None
    count: int = 0
    early: int = 0
    """Step of the evaluation up to which, where the length of training is unknown, figures still form."""
    most_information: float = 0.0
    beta_alive: float | None = None
    """Beta when latents carried most."""
    most_beta: float = 0.0
    before: list[Trend] = field(default_factory=list)
    """Slow running means of what may grow: reliance of the decoder, information of all latents, and of each level."""
    first_recon: float | None = None
    best_recon: float = math.inf
    """Lowest of all, noise included."""
    held_out: Trend = field(default_factory=Trend)
    trained: Trend = field(default_factory=Trend)
    """Reconstruction loss of the probe set, and of the training steps between evaluations, since beta has risen."""
    lowest: float = math.inf
    trained_at_lowest: float | None = None
    explained: Trend = field(default_factory=Trend)
    information: Trend = field(default_factory=Trend)
    """Share of variance explained, and bound on the information, since beta has risen."""
    best_explained: float = -math.inf
    information_at_best: float = 0.0
    _poor_at: int = 0
    """The last step at which latents carried nothing."""
    _since_growth: list[int] = field(default_factory=list)
    alive: np.ndarray | None = None
    """Number of evaluations in a row, since beta has risen, at which each unit was clearly alive; [D]. Kept when it dies."""

    @property
    def last(self) -> Probe:
        """The newest evaluation."""
        assert self.newest is not None
        return self.newest

    def add(self, probe: Probe, training: float | None) -> None:
        """Take in one evaluation, and the mean reconstruction loss of the training steps since the one before."""
        self.newest = probe
        self.count += 1
        self.most_beta = max(self.most_beta, probe.beta or 0.0)
        if self.count <= 4 * self.limits.persistence:
            self.early = probe.step
        if probe.information is not None and probe.information >= self.most_information:
            self.most_information, self.beta_alive = probe.information, probe.beta
        if probe.information is not None and probe.information < self.limits.information_nats:
            self._poor_at = probe.step
        self._follow_growth([probe.reliance, probe.information, *(nats for _, nats in probe.levels)])
        if probe.recon is not None:
            self.first_recon = probe.recon if self.first_recon is None else self.first_recon
            self.best_recon = min(self.best_recon, probe.recon)
        if self.risen(probe.step):
            self._follow_fit(probe, training)
            self._follow_units(probe)

    def risen(self, step: int) -> bool:
        """Whether beta has come to its largest as far as the plan says."""
        return self.schedule is None or step >= self.schedule.risen_at

    @property
    def beta_was_cut(self) -> bool:
        """Whether beta is below its plan, give or take a step; without a plan, below what it has been. A remedy does that."""
        beta, plan, step = self.last.beta, self.schedule, self.last.step
        if beta is None:
            return False
        planned = min(plan.at(max(s, 0)) for s in (step - 1, step, step + 1)) if plan is not None else self.most_beta
        return beta < 0.9 * planned

    def grows(self, level: int | None = None) -> bool:
        """Whether the information of the latents (or of a level, from 1) grew of late: an escape from nothing is slow at first.

        Where a lively encoder meets a decoder that knows nothing yet, the information falls, and the decoder's reliance grows.
        """
        recent = self._since_growth[2 + level - 1 : 2 + level] if level is not None else self._since_growth[:2]
        return any(count < 2 * self.limits.persistence for count in recent)

    def _follow_growth(self, parts: list[float | None]) -> None:
        nats = self.limits.information_nats
        least = [0.05 * self.limits.decoder_reliance, 1e-4 * nats, *[0.01 * nats] * (len(parts) - 2)]
        self.before += [Trend(rate=SLOW_RATE) for _ in parts[len(self.before) :]]
        self._since_growth += [sys.maxsize for _ in parts[len(self._since_growth) :]]
        for i, (part, slow) in enumerate(zip(parts, self.before, strict=False)):
            growing = part is not None and slow.count > 0 and part > max(least[i], GROWTH * slow.value)
            self._since_growth[i] = 0 if growing else self._since_growth[i] + 1
            slow.add(part)

    @property
    def settled_at(self) -> float:
        """The step from which figures have formed: what is lost later was learnt."""
        risen = self.schedule.risen_at if self.schedule is not None else 0
        return max(risen, self._forming)

    @property
    def _forming(self) -> float:
        return self.limits.settling * self.max_steps if self.max_steps else self.early

    @property
    def recovered_at(self) -> float:
        """The same for parts of the latents, which also have to recover from a dip of the whole."""
        return max(self.settled_at, self._poor_at + self._forming if self._poor_at else 0)

    def lasted(self, began: int, count: int, share: float) -> bool:
        """Whether a streak of `count` evaluations since `began` is longer than this share of training."""
        span = (self.last.step - began) / self.max_steps if self.max_steps else None
        usual = 3 * self.limits.persistence * share / self.limits.grace
        return count >= self.limits.persistence and (span >= share if span is not None else count >= usual)

    def _follow_fit(self, probe: Probe, training: float | None) -> None:
        self.trained.add(training)
        if self.held_out.add(probe.recon) < self.lowest:
            self.lowest, self.trained_at_lowest = self.held_out.value, self.trained.value
        self.information.add(probe.information)
        if self.explained.add(probe.explained) > self.best_explained:
            self.best_explained, self.information_at_best = self.explained.value, self.information.value

    def _follow_units(self, probe: Probe) -> None:
        if probe.var_mu is None:
            return
        if self.alive is None or self.alive.shape != probe.var_mu.shape:
            self.alive = np.zeros(probe.var_mu.shape, int)
        fleeting = (probe.var_mu <= self.limits.active_variance) & (self.alive < self.limits.persistence)
        self.alive = np.where(probe.var_mu > ALIVE_VARIANCE, self.alive + 1, np.where(fleeting, 0, self.alive))

    @property
    def lost(self) -> np.ndarray:
        """Units that carry nothing now and were alive for several evaluations before; indices."""
        if self.alive is None or self.last.var_mu is None:
            return np.empty(0, int)
        return np.flatnonzero((self.alive >= self.limits.persistence) & (self.last.var_mu <= self.limits.active_variance))
