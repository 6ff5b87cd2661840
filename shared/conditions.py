"""The conditions a posterior can be in, each judged at the newest evaluation: pure rules from a history to a finding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from shared.probes import History

Patience = Literal["none", "grace", "settling", "recovery", "cycle"]


@dataclass(frozen=True)
class Finding:
    """A condition that holds at the newest evaluation.

    `patience` says what more than persistence an alarm needs: "none", nothing; "grace", that the streak began after figures
    have settled, or outlasts the grace; "settling", that beta has risen as well; "recovery", that the streak outlasts a
    recovery (after settling the grace) and nothing grows; "cycle", with cyclical annealing, a whole cycle.
    """

    kind: str
    title: str
    detail: str
    evidence: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    dims: tuple[int, ...] = ()
    level: int | None = None
    cause: str = ""
    patience: Patience = "settling"

    @property
    def subject(self) -> tuple[str, int | None]:
        """What its streak is counted under."""
        return self.kind, self.level


Condition = Callable[[History], Finding | None]


def findings(history: History) -> Iterator[Finding]:
    """All that holds at the newest evaluation. What is a part or a consequence of a total collapse is left out."""
    explosion, total = kl_explosion(history), lost_information(history)
    yield from (found for found in (explosion, total) if found is not None)
    if total is not None:
        return
    yield from dead_levels(history)
    for condition in (ignored_latent, still_in_time, lost_units, stagnation, overfitting):
        found = condition(history)
        if found is not None:
            yield found


def kl_explosion(history: History) -> Finding | None:
    """The posterior has left the prior: nats or variance out of all proportion."""
    now, limits = history.last, history.limits
    if now.dims and now.kl / now.dims > limits.kl_excess_per_dim:
        detail = f"{now.kl:.3g} nats per set over {now.dims:.0f} dimensions: the posterior has left the prior."
    elif now.variance is not None and now.variance > limits.variance_excess:
        detail = f"The posterior's variance is {now.variance:.3g} times its prior's: it is wider than knowing nothing."
    else:
        return None
    evidence = {"kl": now.kl} | ({"posterior_variance": now.variance} if now.variance is not None else {})
    thresholds = {"kl": limits.kl_excess_per_dim * (now.dims or 1), "posterior_variance": limits.variance_excess}
    return Finding("kl_explosion", "KL explosion", detail, evidence, thresholds, patience="none")


def lost_information(history: History) -> Finding | None:
    """Total collapse, or a constant shift where the KL is paid for nothing."""
    now, limits = history.last, history.limits
    if now.information is None or (now.information >= limits.information_nats and now.active != 0):
        return None
    evidence = {"mi_gauss": now.information, "kl": now.kl} | _known(
        active_units=now.active, explained=now.explained, residual_eigenvalue=now.residual, beta=now.beta
    )
    to_come = _beta_to_come(history)
    if to_come is not None and to_come > (now.beta or 0):
        evidence["beta_max"] = to_come
    little = {"mi_gauss": limits.information_nats} if now.information < limits.information_nats else {"active_units": 1.0}
    stable = is_stable(history)
    patience: Patience = "cycle" if _cyclical(history) else _PATIENCE[stable]
    if now.kl - now.information > limits.shift_nats:
        return Finding(
            "constant_shift", "KL without information",
            f"KL is {now.kl:.3g} nats but at most {now.information:.3g} nats depend on the input: a constant shift.",
            evidence, {**little, "kl": limits.shift_nats}, cause="shifted_mean", patience=patience,
        )  # fmt: skip
    return Finding(
        "collapse", "Posterior collapse",
        f"{now.active or 0:.0f} of {now.dims or 0:.0f} units are active; at most {now.information:.3g} nats per set depend on the input.",
        evidence, {**little, **({"stable_margin": limits.stable_margin} if stable is not None else {})},
        cause=cause_of_collapse(history), patience=patience,
    )  # fmt: skip


_PATIENCE: dict[bool | None, Patience] = {True: "none", False: "recovery", None: "settling"}
"""By whether a collapse is stable: there is nothing to wait for, or something, or it is not known."""


def is_stable(history: History) -> bool | None:
    """Whether latents that carry nothing gain nothing by coming alive, at the largest beta to come; None if unknown.

    By the linear theory: the residuals' largest eigenvalue, in units of the decoder's variance, against beta. Where beta was
    taken below its plan, the plan says nothing of what is to come: beta in force counts.
    """
    now = history.last
    beta = _beta_to_come(history)
    if now.residual is None or beta is None:
        return None
    return now.residual <= history.limits.stable_margin * beta


def _beta_to_come(history: History) -> float | None:
    beta, schedule = history.last.beta, history.schedule
    planned = schedule.maximum if schedule is not None and not history.beta_was_cut else None
    return max((b for b in (beta, planned) if b is not None), default=None)


def cause_of_collapse(history: History) -> str:
    """The likely cause, by what was measured: beta raised beyond its plan, a path around the latents, or a beta too high.

    "recovering" is none: beta was cut, and the latents take up information again.
    """
    if recovers(history):
        return "recovering"
    now, plan = history.last, history.schedule
    planned = plan.at(now.step) if plan is not None else None
    before = planned if planned is not None else history.beta_alive
    if now.beta is not None and before is not None and now.beta > 1.2 * before and now.beta > 0:
        return "beta_raised"
    if now.explained is not None and now.explained > history.limits.bypass_explained:
        return "decoder_bypass"
    stable = is_stable(history)
    return "unknown" if stable is None else "beta_too_high" if stable else "encoder_lags"


def recovers(history: History) -> bool:
    """Whether latents that were lost take up information again since beta was cut: at most to be watched."""
    return history.beta_was_cut and history.grows() and is_stable(history) is not True


def dead_levels(history: History) -> Iterator[Finding]:
    """Partial collapse: levels of latents that carry nothing, where the total is healthy."""
    limits = history.limits
    for level, (ratio, information) in enumerate(history.last.levels, 1):
        if information < limits.level_nats:
            yield Finding(
                "partial_level", f"Partial collapse: level {level} carries nothing",
                f"{ratio:.1%} of its units are active, beyond its prior; at most {information:.3g} nats per set depend on the input.",
                {"active_ratio": ratio, "mi_gauss": information}, {"mi_gauss": limits.level_nats}, level=level,
                cause="dead_level", patience=_early(history, level),
            )  # fmt: skip


def ignored_latent(history: History) -> Finding | None:
    """The decoder does without latents that do carry information: only swapping them between patients shows it."""
    now, limits = history.last, history.limits
    if now.reliance is None or now.reliance >= limits.decoder_reliance:
        return None
    return Finding(
        "decoder_ignores_latent", "Decoder ignores the latent",
        f"Swapping latents between patients changes the reconstruction by {now.reliance:.2%} only, whatever KL and active units say.",
        {"decoder_reliance": now.reliance, "kl": now.kl, **_known(explained=now.explained)},
        {"decoder_reliance": limits.decoder_reliance},
        cause="decoder_bypass" if (now.explained or 0) > limits.bypass_explained else "unknown",
        patience=_early(history),
    )  # fmt: skip


def still_in_time(history: History) -> Finding | None:
    """Latents tell patients apart and never move within one."""
    now, limits = history.last, history.limits
    if now.within_share is None or now.within_share >= limits.time_share:
        return None
    return Finding(
        "partial_time", "Partial collapse: latents do not move in time",
        f"{now.within_share:.2%} of the variance of mu is within patients: the latents say who it is, not how it goes.",
        {"within_share": now.within_share}, {"within_share": limits.time_share}, cause="static_latents",
    )  # fmt: skip


def lost_units(history: History) -> Finding | None:
    """Units that were alive, are dead, and are missed: pruning what is surplus costs neither information nor reconstruction."""
    limits, lost, explained, information = history.limits, history.lost, history.explained.value, history.information.value
    drop = history.best_explained - explained
    if not len(lost) or not drop > max(limits.explained_loss, limits.noise * history.explained.noise):
        return None
    if information > (1 - limits.information_loss) * history.information_at_best:
        return None
    return Finding(
        "partial_dimensions", f"Partial collapse: {len(lost)} unit{'s' if len(lost) > 1 else ''} lost",
        f"They were alive and carry nothing now. The share of variance explained fell from {history.best_explained:.1%} to "
        f"{explained:.1%}, the information from {history.information_at_best:.3g} to {information:.3g} nats.",
        {"units_lost": float(len(lost)), "explained": explained, "explained_before": history.best_explained, "mi_gauss": information},
        {"explained": history.best_explained - limits.explained_loss}, dims=tuple(int(j) for j in lost),
        cause="beta_raised" if cause_of_collapse(history) == "beta_raised" else "units_starved",
        patience="cycle" if _cyclical(history) else "none",
    )  # fmt: skip


def stagnation(history: History) -> Finding | None:
    """Nothing learnt: the reconstruction has not left its baseline although the latents vary."""
    now, limits, first = history.last, history.limits, history.first_recon
    if now.recon is None or first is None or now.step <= history.lr_warmup:
        return None
    gained = (first - history.best_recon) / max(abs(first), 1e-12)
    if gained >= limits.stagnant_gain or (now.explained is not None and now.explained >= limits.stagnant_gain):
        return None
    return Finding(
        "stagnation", "Reconstruction does not improve",
        f"The reconstruction loss has gained {gained:.2%} since the first evaluation ({first:.4g} to {history.best_recon:.4g}).",
        {"gained": gained, **_known(explained=now.explained)}, {"gained": limits.stagnant_gain}, cause="not_learning",
        patience="recovery" if history.grows() else "settling",
    )  # fmt: skip


def overfitting(history: History) -> Finding | None:
    """Held-out reconstruction rises while that of training falls."""
    limits, first, lowest = history.limits, history.first_recon, history.lowest
    then, trained, held_out = history.trained_at_lowest, history.trained.value, history.held_out.value
    if first is None or then is None or not first > lowest:
        return None
    rise, fall = (held_out - lowest) / (first - lowest), (then - trained) / (first - lowest)
    noise = limits.noise * max(history.held_out.noise, history.trained.noise) / (first - lowest)
    if not (rise > max(limits.overfit_rise, noise) and fall > max(limits.overfit_fall, 0.5 * noise)):
        return None
    return Finding(
        "overfitting", "Overfitting",
        f"Held-out reconstruction has risen from {lowest:.4g} to {held_out:.4g}, {rise:.1%} of what it had gained, while training "
        f"fell from {then:.4g} to {trained:.4g}.",
        {"rise": rise, "fall": fall, "recon": held_out, "recon_lowest": lowest}, {"rise": limits.overfit_rise, "fall": limits.overfit_fall},
        cause="too_little_data", patience="cycle" if _cyclical(history) else "settling",
    )  # fmt: skip


def _early(history: History, level: int | None = None) -> Patience:
    """What is not there yet and grows is given the time of a recovery. A beta that still rises gives nothing back.

    So it is not waited for where a level stays empty, nor where the theory says that latents would gain nothing.
    """
    if _cyclical(history):
        return "cycle"
    if history.grows(level) and (level is not None or not is_stable(history)):
        return "recovery"
    return "grace" if level is not None or is_stable(history) else "settling"


def _cyclical(history: History) -> bool:
    return history.schedule is not None and history.schedule.cycle > 0


def _known(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
