"""From findings, evaluation by evaluation, to verdicts that begin, are updated, and end."""

from dataclasses import dataclass, replace

from shared.collapse import Severity, Verdict
from shared.conditions import Finding
from shared.probes import History

Subject = tuple[str, int | None]
WHOLE = frozenset({"collapse", "constant_shift"})
"""Kinds that a dip of all latents is itself."""


@dataclass
class Episode:
    """One condition from its first evaluation to its last. It ends when `persistence` evaluations in a row are free of it."""

    finding: Finding
    began: int
    count: int = 0
    free: int = 0
    measured: int = 0
    seen: int = 0
    free_since: int = 0
    severity: Severity | None = None
    """None while it is too short to be spoken of."""

    def update(self, finding: Finding, history: History) -> None:
        """The condition holds at the newest evaluation too. Severity only rises: an alarm stays one until it ends."""
        self.finding, self.count, self.free, self.measured = finding, self.count + 1, 0, history.last.step
        if self.severity == "alarm":
            return
        severity = self._severity(history)
        if severity != self.severity:
            self.severity, self.seen = severity, history.last.step

    def _severity(self, history: History) -> Severity | None:
        enough, learnt = self.count >= history.limits.persistence, self.began > self._formed(history)
        if self.finding.cause == "recovering":
            return self.severity or ("info" if enough else None)
        if enough and self._ready(history, learnt):
            return "alarm"
        if learnt and self.count >= min(2, history.limits.persistence):
            return "warning"
        return "info" if enough else None

    def _formed(self, history: History) -> float:
        return history.settled_at if self.finding.kind in WHOLE else history.recovered_at

    def _ready(self, history: History, learnt: bool) -> bool:
        """Whether the condition has lasted longer than it may before it passes by itself."""
        limits, step, schedule, patience = history.limits, history.last.step, history.schedule, self.finding.patience
        if patience == "none":
            return True
        if patience == "cycle":
            return schedule is None or step - self.began >= schedule.cycle
        if patience == "recovery":
            over = not history.grows() and history.lasted(self.began, self.count, limits.grace if learnt else limits.recovery)
        else:
            over = learnt or history.lasted(self.began, self.count, limits.grace)
        return over and (patience == "grace" or history.risen(step))

    def absent(self, step: int, persistence: int) -> bool:
        """The condition does not hold at this evaluation; whether the episode is over."""
        self.free_since = step if self.free == 0 else self.free_since
        self.free += 1
        if self.severity != "alarm":
            return True
        return self.free >= persistence

    def verdict(self, ended: int | None = None) -> Verdict:
        """As it stands."""
        found, severity = self.finding, self.severity or "info"
        verdict = Verdict(
            found.kind, severity, found.title, found.detail, self.began, self.seen, ended, found.evidence, found.thresholds,
            found.dims, found.level, found.cause, measured=self.measured,
        )  # fmt: skip
        if severity != "info":
            return verdict
        title = f"Watching: {found.title[0].lower()}{found.title[1:]}"
        why = "beta was cut, and they carry more again since" if found.cause == "recovering" else "it may pass"
        return replace(verdict, title=title, detail=f"{found.detail} Watched, not alarmed: {why}.")


class Episodes:
    """The episodes that are open, by subject."""

    def __init__(self) -> None:
        self.open: dict[Subject, Episode] = {}

    def update(self, findings: list[Finding], history: History) -> list[Verdict]:
        """Take in all findings of one evaluation; returns the verdicts that ended with it."""
        step, ended = history.last.step, []
        held = {finding.subject for finding in findings}
        for finding in findings:
            episode = self.open.setdefault(finding.subject, Episode(finding, step))
            episode.update(finding, history)
        for subject in [s for s in self.open if s not in held]:
            episode = self.open[subject]
            if episode.absent(step, history.limits.persistence):
                del self.open[subject]
                if episode.severity is not None:
                    ended.append(episode.verdict(ended=episode.free_since))
        return ended

    def verdicts(self) -> list[Verdict]:
        """Those that last, and have lasted long enough to be spoken of."""
        return [episode.verdict() for episode in self.open.values() if episode.severity is not None]

    @property
    def begun(self) -> Episode | None:
        """The oldest that holds and is too short to be spoken of; None where there is none."""
        return min((e for e in self.open.values() if e.severity is None), key=lambda episode: episode.began, default=None)
