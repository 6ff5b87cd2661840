"""Verdicts while training: each change of mind is an event of the run, each alarm is also said aloud."""

from typing import Any

from backend.recorder import RunRecorder
from shared.collapse import Verdict, judge
from shared.writer import warn_on_stderr


class Judging:
    """Judges the evaluations of a run as they come."""

    def __init__(self, recorder: RunRecorder, warmup_steps: int) -> None:
        self.recorder = recorder
        self.warmup_steps = warmup_steps
        self.rows: list[dict[str, Any]] = recorder.evaluations("probe")
        self.verdict: Verdict | None = judge(self.rows, warmup_steps) if self.rows else None
        self.alarm_step: int | None = None
        """The first step at which a verdict was an alarm."""

    def add(self, row: dict[str, Any]) -> None:
        """Judge all evaluations so far, `row` the latest."""
        self.rows.append(row)
        self._tell(judge(self.rows, self.warmup_steps), int(row["step"]))

    def nonfinite(self, step: int, names: list[str]) -> None:
        """NaN or infinity in a step: no need to wait for the next evaluation."""
        self._tell(judge([{"step": step, "nonfinite": names}]), step)

    def _tell(self, verdict: Verdict, step: int) -> None:
        before, self.verdict = self.verdict, verdict
        if before is not None and (before.kind, before.severity) == (verdict.kind, verdict.severity):
            return
        self.recorder.event(
            "verdict", step, f"{verdict.title}: {verdict.detail}", verdict=verdict.kind, severity=verdict.severity,
            began=verdict.began, evidence=verdict.evidence, remedy=verdict.remedy,
        )  # fmt: skip
        if verdict.severity == "alarm":
            self.alarm_step = step if self.alarm_step is None else self.alarm_step
            since = f" since step {verdict.began:,}" if verdict.began is not None else ""
            warn_on_stderr(f"step {step:,}: {verdict.title}{since}. {verdict.detail} {verdict.remedy or ''}")
