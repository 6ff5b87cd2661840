"""How many latent units will carry information at the largest beta, before it is reached. Linear theory, in numpy.

A linear VAE with decoder variance sigma2 keeps a direction of the data alive where its variance lambda exceeds
tau = beta * sigma2, with 1/2 log(lambda / tau) nats and Var(mu) = 1 - tau / lambda (Lucas et al. 2019; Rolinek et al. 2019).

`forecast` reads lambda / sigma2 off a posterior that trains: a direction whose share of variance is e at beta_now has
strength beta_now / (1 - e). It looks at independent directions, not at single units: while beta rises, units hold turned
versions of the same few directions in common, each with a variance near 1, and counting those units would foretell a
collapse that does not come. `Spectrum` has lambda from the data, before any training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from shared.schedule import BetaSchedule
from shared.schema import checked

ALIVE = 0.99
"""tau / lambda below which a unit counts as active: Var(mu) above 0.01."""
FURTHEST = 2.0
"""Largest factor by which beta may still rise: before, latents are still being learnt, and a forecast would read too low."""
EMPTY_NATS = 0.1
"""Below this, latents are not at their equilibrium where the residuals say that they would gain by coming alive."""
LEAST_VARIANCE = 0.01
"""Floor of the variance that the likelihood decoder learns, in squared standard deviations."""


@dataclass(frozen=True)
class Survivors:
    """Units that live, and the nats per set that they carry."""

    units: int
    nats: float


def survivors(strength: np.ndarray, tau: float, latents: int | None = None) -> Survivors:
    """Which of the directions with these variances live at `tau`, at most `latents` of them, the strongest."""
    strongest = np.sort(np.asarray(strength, float))[::-1][:latents]
    alive = strongest[strongest * ALIVE > tau]
    if tau <= 0:
        return Survivors(len(alive), math.inf if len(alive) else 0.0)
    return Survivors(len(alive), float(0.5 * np.log(alive / tau).sum()))


@dataclass(frozen=True)
class Floor:
    """Free bits: KL that costs nothing, in nats, for each dimension or for the whole set."""

    nats: float = 0.0
    mode: str = "dimension"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From the configuration in a run.json; none where a foreign one does not say."""
        loss = config.get("loss")
        nats = loss.get("free_bits") if isinstance(loss, Mapping) else None
        if not isinstance(loss, Mapping) or not isinstance(nats, int | float):
            return cls()
        return cls(float(nats), str(loss.get("free_bits_mode", "dimension")))


@dataclass(frozen=True)
class Forecast:
    """What will be left at the largest beta of the schedule, as it looks after `step`."""

    step: int
    beta_now: float
    beta: float
    reached_at: int
    units: int
    """Units that live on their own strength."""
    nats: float
    """What those carry, per set."""
    of: int
    floor: Floor

    @classmethod
    def of_event(cls, data: object) -> Self:
        """From the `data` of a forecast event. Raises InputError, which names the field."""
        return checked(TypeAdapter(cls), data)

    @property
    def held(self) -> int:
        """Further units that free bits keep alive, whatever beta."""
        return self.of - self.units if self.floor.nats > 0 and self.floor.mode == "dimension" else 0

    @property
    def sentence(self) -> str:
        """For people."""
        left = f"{self.units} of {self.of} units" if self.units else f"none of {self.of} units"
        text = f"At beta {self.beta:.3g}, reached at step {self.reached_at:,}, {left} will remain"
        if not self.floor.nats:
            return f"{text}, with {self.nats:.2g} nats per set." if self.units else f"{text}: the posterior will collapse."
        text += f" on their own strength, with {self.nats:.2g} nats per set" if self.units else " on its own strength"
        if self.held:
            held = f"the other {self.held}" if self.units else f"all {self.held}"
            return f"{text}; free bits hold {held} at {self.floor.nats:.3g} nats each."
        return f"{text}; free bits keep the total at {self.floor.nats:.3g} nats or more."

    def differs(self, other: "Forecast") -> bool:
        """Whether it says something materially else: another beta, some units instead of none, or a tenth of all more or less."""
        moved = abs(self.units - other.units) > max(1, 0.1 * self.of)
        return moved or (self.units == 0) != (other.units == 0) or not math.isclose(self.beta, other.beta)


def forecast(
    row: Mapping[str, Any], schedule: BetaSchedule | None, previous: Forecast | None = None, floor: Floor | None = None
) -> Forecast | None:
    """From one probe row: what will be left when beta is at its largest.

    None where that cannot be said (see `unforeseen`), and where it says nothing materially new after `previous`.
    The decoder's variance is taken to stay as it is: one that goes on shrinking lets more units live.
    """
    if schedule is None or unforeseen(row, schedule) is not None:
        return None
    floor, beta = floor or Floor(), float(row["beta"])
    own = np.array(row["per_dim"]["shares"], float)
    strength = beta / np.clip(1 - own, 1e-12, None)
    if floor.mode == "dimension":  # what carries less than the floor is held by it, not by its own strength
        strength = strength[strength > schedule.maximum * math.exp(2 * floor.nats)]
    left = survivors(strength, schedule.maximum)
    step, dims = int(row["step"]), int(row.get("latent_dims") or len(own))
    made = Forecast(step, beta, schedule.maximum, next_largest(schedule, step), left.units, left.nats, dims, floor)
    return made if previous is None or made.differs(previous) else None


def unforeseen(row: Mapping[str, Any], schedule: BetaSchedule | None) -> str | None:
    """Why nothing can be foretold from a probe row; None where it can."""
    beta, listed = row.get("beta"), row.get("per_dim")
    if schedule is None or not isinstance(beta, int | float):
        return "The schedule of beta is not known."
    if beta >= schedule.maximum * (1 - 1e-9):
        return f"Beta is at its largest, {schedule.maximum:.3g}: what lives now is what remains."
    if (int(row["step"]) >= schedule.risen_at and not schedule.cycle) or _is_off(beta, schedule, int(row["step"])):
        return f"Beta is at {beta:.3g} and off its schedule, as a remedy takes it: where it goes is not known."
    shares = listed.get("shares") if isinstance(listed, Mapping) else None
    if not isinstance(shares, list | tuple | np.ndarray) or not len(shares) or None in list(shares):
        return "The evaluations do not hold the independent shares of the latents (they need a probe set, or a newer release)."
    if beta * FURTHEST < schedule.maximum:
        return f"Too early: beta is at {beta:.3g} of {schedule.maximum:.3g}, and the latents are still being learnt."
    return _empty(row, schedule)


def _empty(row: Mapping[str, Any], schedule: BetaSchedule) -> str | None:
    information, residual = row.get("mi_gauss"), row.get("residual_eigenvalue")
    if information is not None and residual is not None and information < EMPTY_NATS and residual > schedule.maximum:
        return "The latents carry nothing yet, and the residuals still hold what would bring them to life at the largest beta."
    return None


def _is_off(beta: float, schedule: BetaSchedule, step: int) -> bool:
    """Whether beta is not what its schedule has after `step`, give or take a step."""
    return not 0.9 * schedule.at(max(step - 1, 0)) <= beta <= 1.1 * schedule.at(step + 1)


def next_largest(schedule: BetaSchedule, step: int) -> int:
    """The next step at which beta is at its largest."""
    if not schedule.cycle:
        return schedule.risen_at
    inside = step % schedule.cycle
    return step - inside + schedule.risen_at + (schedule.cycle if inside > schedule.risen_at else 0)


@dataclass(frozen=True)
class Outlook:
    """What the data alone let live at one beta."""

    beta: float
    decoder_variance: float
    values: Survivors
    """Directions of the measured values."""
    presence: Survivors
    """Directions of what is measured together."""

    @property
    def units(self) -> int:
        """Units of both kinds."""
        return self.values.units + self.presence.units

    @property
    def nats(self) -> float:
        """Nats per set of both kinds."""
        return self.values.nats + self.presence.nats


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a data set, one row per set.

    `values` are those of the covariance of standardised values, 0 where unobserved, for a decoder that pays for observed values
    only. `presence` are those of the correlation of what occurs: a Bernoulli decoder is, near its mean p, a Gaussian one with
    variance p (1 - p). Both are descending. Empty presence: a decoder of values alone.
    """

    values: np.ndarray
    presence: np.ndarray
    observed: float
    """Observed values per set."""
    sets: int

    def outlook(self, beta: float, latents: int, decoder_variance: float | None = None) -> Outlook:
        """What lives at `beta` with `latents` units.

        A learned decoder variance is the mean unexplained variance per observed value, which depends on what lives; it is found
        from above, where training begins too: collapsed.
        """
        variance = self._collapsed_variance if decoder_variance is None else decoder_variance
        for _ in range(1000 if decoder_variance is None else 0):
            before = variance
            own = self._own(beta, latents, before)
            variance = self._unexplained(own, beta * before)
            if math.isclose(variance, before, rel_tol=1e-9):
                break
        own = self._own(beta, latents, variance)
        rest = max(latents - len(own), 0)
        return Outlook(beta, variance, survivors(own, beta * variance), survivors(self.presence, beta, rest))

    def _own(self, beta: float, latents: int, variance: float) -> np.ndarray:
        """The eigenvalues of the values that get a unit, where values and presence compete for `latents` of them."""
        both = np.concatenate([self.values / variance, self.presence])
        chosen = np.argsort(-both, kind="stable")[:latents]
        return self.values[chosen[chosen < len(self.values)]]

    def _unexplained(self, own: np.ndarray, tau: float) -> float:
        """Mean unexplained variance per observed value, where the directions in `own` have a unit each."""
        left = self.values.sum() - np.clip(own - tau, 0, None).sum()
        return max(float(left) / max(self.observed, 1e-12), LEAST_VARIANCE)

    @property
    def _collapsed_variance(self) -> float:
        return self._unexplained(np.empty(0), 0.0)

    def largest_beta(self, decoder_variance: float | None = None) -> float:
        """From here on nothing lives: no direction is worth its tau, with the decoder's variance as at collapse."""
        variance = self._collapsed_variance if decoder_variance is None else decoder_variance
        return float(max([*(self.values[:1] / variance), *self.presence[:1]], default=0.0))
