"""The detector: reads a run's rows as they come, or as they were stored, and says what holds. No torch.

A condition (`shared.conditions`) that holds at an evaluation is watched (info). It becomes an alarm when it has held for
`persistence` evaluations in a row, and beyond what is usual while training begins: a streak that began before figures have
settled (the warm-up of beta, the first tenth of training) has to outlast the grace, unless the condition can be told at
once. A collapse can, where the linear theory says that it is stable; latents that would gain by coming alive are given the
time of a recovery. With cyclical annealing, lost information has to stay lost for a whole cycle. A verdict ends when
`persistence` evaluations in a row are free of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

from shared.advice import advised
from shared.collapse import SEVERITIES, Thresholds, Verdict
from shared.conditions import findings
from shared.episodes import Episodes
from shared.forecast import Floor
from shared.probes import History, Probe, nonfinite_names, number
from shared.schedule import BetaSchedule
from shared.stepwise import NonFinite, Spikes

NOTHING_YET = Verdict("insufficient", "info", "No probe evaluation yet", "The first one comes within a few hundred steps.")

FREE = 1.1
"""Times the floor of free bits up to which a unit carries what is free, and no more: its KL varies a little about it."""


class Detector:
    """The verdicts on one run. Rows go in by step; a probe of a step comes before the log line of that step.

    Args:
        config: that of the run's run.json; a foreign or partial one will do.
        limits: a preset of `shared.collapse.PRESETS`.
        max_steps: optimizer steps planned, None where unknown.
    """

    def __init__(self, config: Mapping[str, Any], limits: Thresholds | None = None, max_steps: int | None = None) -> None:
        self.limits = limits or Thresholds()
        optim = config.get("optim")
        warmup = optim.get("lr_warmup_steps") if isinstance(optim, Mapping) else None
        self.history = History(self.limits, BetaSchedule.of(config), max_steps, warmup if isinstance(warmup, int) else 0)
        self.floor = Floor.of(config)
        self.past: list[Verdict] = []
        """Verdicts that have ended, in that order."""
        self._episodes = Episodes()
        self._nonfinite = NonFinite()
        self._spikes = Spikes(self.limits)
        self._pending: tuple[int, float] | None = None
        self._recon: list[float] = []
        self._patients: float | None = None

    def training(self, row: Mapping[str, Any]) -> None:
        """A line of the step log."""
        step = int(row["step"])
        ended = self._nonfinite.add("training", step, nonfinite_names(row)), self._spikes.add(step, row)
        self.past.extend(advised(verdict) for verdict in ended if verdict is not None)
        recon = number(row, "recon")
        if recon is not None:
            self._settle(step)
            self._pending = step, recon

    def probe(self, row: Mapping[str, Any]) -> None:
        """An evaluation of the probe set."""
        ended = self._nonfinite.add("probe", int(row["step"]), nonfinite_names(row))
        self.past.extend([advised(ended)] if ended is not None else [])
        probe = Probe.of(row)
        if probe is None:
            return
        self._settle(probe.step)
        training = fmean(self._recon) if self._recon else None
        self._recon = []
        self._patients = probe.patients
        if probe.patients < self.limits.minimum_patients:
            return
        self.history.add(probe, training)
        self.past.extend(advised(v) for v in self._episodes.update(list(findings(self.history)), self.history))

    def _settle(self, step: int) -> None:
        """Count the last line where it is of an earlier step: the line of a probe's own step may come before it or after."""
        if self._pending is not None and self._pending[0] < step:
            self._recon.append(self._pending[1])
            self._pending = None

    @property
    def stepwise(self) -> tuple[bool, bool, int]:
        """Changes when the step log alone has begun or ended a verdict: cheap enough to ask at every step."""
        return bool(self._nonfinite.began), self._spikes.began is not None, len(self.past)

    @property
    def verdicts(self) -> list[Verdict]:
        """All that holds now, the most serious first: at least one."""
        found = [*self._nonfinite.verdicts(), *self._spikes.verdicts(), *self._episodes.verdicts()]
        if self._patients is None:
            found.append(NOTHING_YET)
        elif self._patients < self.limits.minimum_patients:
            found.append(_insufficient(self._patients, self.limits))
        elif not found:
            found.append(self._nothing_said())
        return sorted((advised(v) for v in found), key=lambda v: (SEVERITIES.index(v.severity), v.began or 0))

    def _nothing_said(self) -> Verdict:
        """What holds where no rule has fired: healthy, or undecided while a condition that makes one holds and has not lasted."""
        now, limits = self.history.last, self.limits
        begun = self._episodes.begun
        held = self._held_by_free_bits(now)
        if begun is not None:
            undecided = _undecided(f"{begun.finding.detail} Held at {_times(begun.count)}", begun.began, limits)
            return replace(undecided, detail=f"{undecided.detail} {held}") if held else undecided
        if now.active == 0:
            return _undecided(
                f"No unit is active at step {now.step:,}, and what depends on the input was not measured", now.step, limits
            )
        healthy = Verdict(
            "healthy", "ok", "Posterior healthy", "No rule has fired on the last probe evaluations.", seen=now.step
        )
        if held:
            return replace(healthy, detail=f"{healthy.detail} {held}")
        if now.active is None or not now.dims or now.active >= now.dims:
            return healthy
        return replace(healthy, detail=f"{healthy.detail} What is not active is not missed: surplus, pruned.")

    def _held_by_free_bits(self, now: Probe) -> str:
        """A sentence where no active unit carries more than free bits give each; "" otherwise, or where units' KL was not measured.

        Figures that vary are not in it: each wording of what holds is an event.
        """
        if self.floor.mode != "dimension" or not self.floor.nats or now.unit_kl is None or now.var_mu is None:
            return ""
        active = now.var_mu > self.limits.active_variance
        if now.unit_kl.shape != active.shape or not active.any() or (now.unit_kl[active] > FREE * self.floor.nats).any():
            return ""
        units = f"{now.dims:.0f} of {now.dims:.0f} active, held" if now.active == now.dims else "What is active is held"
        return f"{units} by free bits: their KL costs nothing up to {self.floor.nats:.3g} nats each."


def replay(detector: Detector, training: Iterable[Mapping[str, Any]], probes: Iterable[Mapping[str, Any]]) -> Detector:
    """Feed stored rows in the order in which they were made."""
    rest = iter(training)
    line = next(rest, None)
    for row in probes:
        while line is not None and line["step"] < row["step"]:
            detector.training(line)
            line = next(rest, None)
        detector.probe(row)
    while line is not None:
        detector.training(line)
        line = next(rest, None)
    return detector


def _undecided(what: str, began: int, limits: Thresholds) -> Verdict:
    return Verdict(
        "undecided", "info", "Undecided",
        f"{what}: until it has lasted, a dip that passes and a lasting fault look alike. Decided when {limits.persistence:.0f} evaluations "
        "in a row agree; where the run has ended before that, train on, or evaluate more often (--update_frequency).",
        began, began,
    )  # fmt: skip


def _times(count: int) -> str:
    return "one evaluation" if count == 1 else f"{count} evaluations in a row"


def _insufficient(patients: float, limits: Thresholds) -> Verdict:
    return Verdict(
        "insufficient", "info", "Insufficient data",
        f"{patients:.0f} probe patients; below {limits.minimum_patients} an active unit cannot be told from a dead one.",
        evidence={"patients": patients}, thresholds={"patients": limits.minimum_patients},
    )  # fmt: skip
