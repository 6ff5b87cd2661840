"""Verdicts while training: each change of mind is an event of the run, each alarm is also said aloud."""

from collections.abc import Mapping
from typing import Any

import orjson

from backend.recorder import RunRecorder
from shared.collapse import Verdict
from shared.reader import JsonlTail
from shared.verdicts import judge_run, nonfinite_steps
from shared.writer import encode_line, warn_on_stderr


class Judging:
    """Judges a run as its rows come, by the configuration and the rows that a page would find in its folder."""

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder
        self.rows: list[dict[str, Any]] = recorder.evaluations("probe")
        log = JsonlTail(recorder.layout.metrics).read_frame()
        self.not_finite = nonfinite_steps(log)
        self.newest = int(log["step"].iloc[-1]) if len(log) else 0
        self.verdict: Verdict | None = self._judge() if self.rows else None
        self.alarm_step: int | None = None
        """The first step at which a verdict was an alarm."""

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Judge all evaluations so far and this one, as it is written: infinity too is then a name in `nonfinite`."""
        self.rows.append(orjson.loads(encode_line(step, dict(values))))
        self._tell(step)

    def nonfinite(self, step: int, names: list[str]) -> None:
        """NaN or infinity in a step: no need to wait for the next evaluation."""
        for name in names:
            self.not_finite.setdefault(name, []).append(step)
        self._tell(step)

    def _judge(self) -> Verdict:
        return judge_run(self.recorder.info.config, self.rows, self.not_finite, self.newest)[0]

    def _tell(self, step: int) -> None:
        self.newest = max(self.newest, step)
        before, self.verdict = self.verdict, self._judge()
        verdict = self.verdict
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
