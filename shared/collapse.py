"""Threshold verdicts on the posterior, from the evaluations a run recorded. No torch: live, stored, anywhere.

Each rule looks at raw (mu, logvar) statistics, never at a loss term: a free-bits floor or a beta hides the truth there.
The two older rules (mean variance < 0.1, exp(logvar) > 0.01) point the wrong way and raise nothing here.

From rule to alarm: a rule that fires is a note (`info`) during its quiet time, then a warning, and an alarm once it has
fired on three evaluations in a row after the quiet time. The quiet time ends

- for NaN or infinity: at once, and the first evaluation is an alarm;
- for an explosion: after a fifth of the beta warm-up, for where beta is near 0 nothing holds the KL;
- for lost information (all other rules), where an earlier evaluation was free of it: with the warm-up. A dip while beta
  still rises may recover: a decoder on h_t lost its latents at 0.4 warm-ups and had them back at 1.5, while one with a bypass
  lost them for good at 0.75 to 1.5;
- for information that never was there: after 1.5 warm-ups, or after seven evaluations where there is no warm-up (an
  alarm at the tenth), for an untrained encoder carries none yet.
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
    kl_excess_per_dim: float = 10.0
    """Mean KL per dimension above this is an explosion."""
    decoder_reliance: float = 0.02
    """Below this relative gap on swapping latents between patients, the decoder ignores them."""
    persistence: int = 3
    """Probe evaluations in a row that must agree before an alarm."""
    minimum_patients: int = 32
    """Smaller probes prove nothing."""
    quiet_evaluations: int = 7
    """Without a beta warm-up, the first evaluations, in which an encoder may learn to carry anything at all."""


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
SEVERITIES: tuple[Severity, ...] = ("alarm", "warning", "info", "ok")
LOWER_BETA = "Lower beta_max, lengthen beta_warmup_steps, or raise free_bits; then check active units again."


def judge(probes: Sequence[Mapping[str, Any]], beta_warmup_steps: int = 0, limits: Thresholds | None = None) -> Verdict:
    """The most serious verdict that holds at the last of `probes` (rows of kind "probe", in step order).

    When a rule that fires is a note, a warning or an alarm stands at the head of this file. Rows with too few patients give
    "insufficient data", never a number.
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
    found = []
    for rule in (_explosion, _collapse, _ignored_latent, _dead_level):
        verdict, streak = rule(rows[-1], limits), _streak(rows, rule, limits)
        if verdict is not None:
            quiet = 0.2 * beta_warmup_steps if rule is _explosion else _quiet_until(rows, streak, beta_warmup_steps, limits)
            found.append(_dated(verdict, rows[-streak:], quiet, limits))
    return min(found, key=lambda verdict: SEVERITIES.index(verdict.severity), default=HEALTHY)


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


def _quiet_until(rows: Sequence[Mapping[str, Any]], streak: int, warmup: int, limits: Thresholds) -> float:
    """The last step of the quiet time of a rule on lost information that fires on the last `streak` rows."""
    if streak < len(rows):
        return warmup
    if warmup:
        return 1.5 * warmup
    return float(rows[: limits.quiet_evaluations][-1]["step"])


def _dated(verdict: Verdict, streak: Sequence[Mapping[str, Any]], quiet_until: float, limits: Thresholds) -> Verdict:
    steps = [int(row["step"]) for row in streak]
    counted = [step for step in steps if step > quiet_until]
    early = not counted
    severity: Severity = "info" if early else "warning" if len(counted) < limits.persistence else "alarm"
    began, seen = steps[0], steps[-1] if early else counted[min(limits.persistence, len(counted)) - 1]
    dated = replace(verdict, severity=severity, began=began, seen=seen)
    if not early:
        return dated
    note = " Still early in training: watched, not alarmed."
    title = f"Watching: {verdict.title[0].lower()}{verdict.title[1:]}"
    return replace(dated, title=title, detail=verdict.detail + note, remedy=None)


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


def _dead_level(row: Mapping[str, Any], limits: Thresholds) -> Verdict | None:
    """Partial collapse: the first level of latents that carries nothing, where the total is healthy."""
    if _collapse(row, limits) is not None:
        return None
    level = 1
    while (ratio := _number(row, f"active_ratio_level_{level}")) is not None:
        information = _number(row, f"mi_gauss_level_{level}")
        if ratio < limits.active_ratio and information is not None and information < limits.information_nats:
            return Verdict(
                "partial_collapse", "alarm", f"Partial collapse: level {level} carries nothing",
                f"{ratio:.1%} of its units are active, beyond its prior; at most {information:.3g} nats per set depend on the input.",
                evidence={"level": level, "active_ratio": ratio, "mi_gauss": information},
                remedy=f"Train with fewer levels, or keep this one alive: {LOWER_BETA[0].lower()}{LOWER_BETA[1:]}",
            )  # fmt: skip
        level += 1
    return None
