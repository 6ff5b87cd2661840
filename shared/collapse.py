"""Threshold verdicts on the posterior, from the evaluations a run recorded. No torch: live, stored, anywhere.

Each rule looks at raw (mu, logvar) statistics, never at a loss term: a free-bits floor or a beta hides the truth there.
The two older rules (mean variance < 0.1, exp(logvar) > 0.01) point the wrong way and raise nothing here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

Severity = Literal["ok", "info", "warning", "alarm"]


@dataclass(frozen=True)
class Thresholds:
    """The limits that rules and charts share."""

    active_ratio: float = 0.10
    """Below this share of active units (Var(mu) > 0.01) a posterior counts as collapsed."""
    active_variance: float = 0.01
    """Var(mu) above which a unit is active (Burda, Grosse, Salakhutdinov 2016)."""
    information_nats: float = 0.10
    """Below this bound on I(x; z), in nats per set, latents carry nothing."""
    kl_healthy: tuple[float, float] = (0.1, 10.0)
    """Healthy band of the total KL that users of the older monitor know, in nats per set."""
    kl_excess_per_dim: float = 10.0
    """Mean KL per dimension above this is an explosion."""
    decoder_reliance: float = 0.02
    """Below this relative gap on swapping latents between patients, the decoder ignores them."""
    persistence: int = 3
    """Probe evaluations in a row that must agree before an alarm."""
    minimum_patients: int = 32
    """Smaller probes prove nothing."""


@dataclass(frozen=True)
class Verdict:
    """What the rules conclude: `began` is the first step of the streak, `seen` the step at which it was long enough."""

    kind: str
    severity: Severity
    title: str
    detail: str
    began: int | None = None
    seen: int | None = None
    evidence: dict[str, float] = field(default_factory=dict)
    remedy: str | None = None


Rule = Callable[[Mapping[str, Any], Thresholds], Verdict | None]
HEALTHY = Verdict("healthy", "ok", "Posterior healthy", "No rule has fired on the last probe evaluations.")
LOWER_BETA = "Lower beta_max, lengthen beta_warmup_steps, or raise free_bits; then check active units again."


def judge(probes: Sequence[Mapping[str, Any]], beta_warmup_steps: int = 0, limits: Thresholds | None = None) -> Verdict:
    """The most serious verdict that holds at the last of `probes` (rows of kind "probe", in step order).

    During the first fifth of the beta warm-up low information is reported as `info`, not as an alarm: an untrained encoder
    carries none yet. Rows with too few patients give "insufficient data", never a number.
    """
    limits = limits or Thresholds()
    rows = [row for row in probes if _number(row, "kl") is not None or _nonfinite_names(row)]
    if not rows:
        return Verdict("insufficient", "info", "No probe evaluation yet", "The first one comes after a few hundred steps.")
    if _nonfinite_names(rows[-1]):
        return _nonfinite(rows)
    if (_number(rows[-1], "patients") or 0) < limits.minimum_patients:
        return Verdict(
            "insufficient", "info", "Insufficient data",
            f"{rows[-1].get('patients')} probe patients; below {limits.minimum_patients} an active unit cannot be told from a dead one.",
        )  # fmt: skip
    for rule in (_explosion, _collapse, _ignored_latent):
        streak = _streak(rows, rule, limits)
        if streak:
            verdict = rule(rows[-1], limits)
            assert verdict is not None
            return _dated(verdict, rows, streak, beta_warmup_steps, limits)
    return HEALTHY


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _nonfinite_names(row: Mapping[str, Any]) -> list[str]:
    """Rows that come from a frame hold NaN, which is true, where this row had nothing to report."""
    names = row.get("nonfinite")
    return list(names) if isinstance(names, list | tuple) else []


def _streak(rows: Sequence[Mapping[str, Any]], rule: Rule, limits: Thresholds) -> int:
    """How many of the last rows in a row the rule fires on."""
    count = 0
    for row in reversed(rows):
        if rule(row, limits) is None:
            break
        count += 1
    return count


def _dated(verdict: Verdict, rows: Sequence[Mapping[str, Any]], streak: int, warmup: int, limits: Thresholds) -> Verdict:
    steps = [int(row["step"]) for row in rows[-streak:]]
    counted = [step for step in steps if step > 0.2 * warmup]  # an alarm needs its evidence after the silent time
    early = not counted
    severity: Severity = "info" if early else "warning" if len(counted) < limits.persistence else "alarm"
    began, seen = steps[0], steps[-1] if early else counted[min(limits.persistence, len(counted)) - 1]
    note = " Still early in the beta warm-up: watched, not alarmed." if early else ""
    return replace(verdict, severity=severity, detail=verdict.detail + note, began=began, seen=seen)


def _nonfinite(rows: Sequence[Mapping[str, Any]]) -> Verdict:
    names = ", ".join(_nonfinite_names(rows[-1]))
    step = int(rows[-1]["step"])
    return Verdict(
        "nonfinite", "alarm", "NaN or infinity in the posterior", f"Not finite: {names}.", step, step,
        remedy="Lower the learning rate, keep gradient clipping on, use 32-bit precision, and check the data for wild values.",
    )  # fmt: skip


def _explosion(row: Mapping[str, Any], limits: Thresholds) -> Verdict | None:
    kl, dims = _number(row, "kl"), _number(row, "latent_dims")
    if kl is None or not dims or kl / dims <= limits.kl_excess_per_dim:
        return None
    return Verdict(
        "kl_explosion", "alarm", "KL explosion",
        f"{kl:.3g} nats per set over {dims:.0f} dimensions: the posterior has left the prior.",
        evidence={"kl": kl, "threshold": limits.kl_excess_per_dim * dims},
        remedy="Raise beta, lower the learning rate, or check values and their normalisation.",
    )  # fmt: skip


def _collapse(row: Mapping[str, Any], limits: Thresholds) -> Verdict | None:
    ratio, information = _number(row, "active_ratio"), _number(row, "mi_gauss")
    if ratio is None or information is None:
        return None
    shifted = information < limits.information_nats and (_number(row, "kl") or 0.0) > 10 * limits.information_nats
    if ratio >= limits.active_ratio and information >= limits.information_nats:
        return None
    evidence = {"active_ratio": ratio, "mi_gauss": information, "kl": _number(row, "kl") or 0.0}
    if shifted:
        return Verdict(
            "constant_shift", "alarm", "KL without information",
            f"KL is {evidence['kl']:.3g} nats but at most {information:.3g} nats depend on the input: a constant shift.",
            evidence=evidence, remedy=LOWER_BETA,
        )  # fmt: skip
    return Verdict(
        "collapse", "alarm", "Posterior collapse",
        f"{ratio:.1%} of units are active (limit {limits.active_ratio:.0%}); at most {information:.3g} nats per set depend on the input.",
        evidence=evidence, remedy=LOWER_BETA,
    )  # fmt: skip


def _ignored_latent(row: Mapping[str, Any], limits: Thresholds) -> Verdict | None:
    reliance = _number(row, "decoder_reliance")
    if reliance is None or reliance >= limits.decoder_reliance:
        return None
    return Verdict(
        "decoder_ignores_latent", "alarm", "Decoder ignores the latent",
        f"Swapping latents between patients changes the reconstruction by {reliance:.2%} only, whatever KL and active units say.",
        evidence={"decoder_reliance": reliance, "threshold": limits.decoder_reliance},
        remedy="Remove the path around the latent (skip or autoregressive inputs), or weaken the decoder.",
    )  # fmt: skip
