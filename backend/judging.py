"""Verdicts while training: what begins, changes or ends is an event of the run; an alarm is also said aloud."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from backend.recorder import RunRecorder
from shared.collapse import COLLAPSES, Verdict
from shared.forecast import Floor, forecast
from shared.reader import each_row
from shared.schedule import BetaSchedule
from shared.verdicts import VerdictLog, limits_of, replay_run, said, verdict_data
from shared.writer import encode_line, warn_on_stderr


class Judging:
    """Judges a run as its rows come, with the detector that `python -m backend diagnose` replays them through.

    Takes up where the stored rows end: after a resume it says what it would have said without the interruption.
    """

    def __init__(self, recorder: RunRecorder, on_alarm: Callable[[int, Verdict], None] = lambda step, verdict: None) -> None:
        self.recorder = recorder
        self.on_alarm = on_alarm
        """Told of every collapse that becomes an alarm."""
        recorder.info.detector = asdict(limits_of(recorder.info))
        recorder.save_info()
        self.detector = replay_run(recorder.layout)
        self.log = VerdictLog()
        for event in each_row(recorder.layout.events):
            self.log.take(event)
        self.forecast = self.log.forecast
        """What was foretold last."""
        self.alarm_step: int | None = min((v.seen for v in self._alarms() if v.seen is not None), default=None)
        """The first step at which a verdict was an alarm."""

    @property
    def verdict(self) -> Verdict:
        """The most serious one that holds."""
        return self.detector.verdicts[0]

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Judge an evaluation as it is written: infinity too is then a name in `nonfinite`."""
        self.recorder.flush()
        row = orjson.loads(encode_line(step, dict(values)))
        self.detector.probe(row)
        self._tell(step)
        config = self.recorder.info.config
        made = forecast(row, BetaSchedule.of(config), self.forecast, Floor.of(config))
        if made is not None:
            self.forecast = made
            self.recorder.event("forecast", step, made.sentence, **asdict(made))

    def line(self, step: int, values: Mapping[str, Any], nonfinite: list[str]) -> None:
        """Judge a line of the step log: NaN and spikes need not wait for the next evaluation."""
        told = self.detector.stepwise
        self.detector.training({"step": step, **values, "nonfinite": nonfinite})
        if self.detector.stepwise != told:
            self._tell(step)

    def _alarms(self) -> list[Verdict]:
        return [v for v in (*self.log.past, *self.log.open.values()) if v.severity == "alarm"]

    def _tell(self, step: int) -> None:
        """Write what differs from what was written last."""
        for verdict in list(self.log.changes(self.detector.verdicts, self.detector.past, step)):
            self._write(step, verdict)

    def _write(self, step: int, verdict: Verdict) -> None:
        self.recorder.event("verdict", step, said(verdict), **verdict_data(verdict))
        raised = verdict.severity == "alarm" and verdict.ended is None
        known = self.log.open.get(verdict.subject)
        self.log.add(verdict_data(verdict))
        if not raised or (known is not None and known.severity == "alarm"):
            return
        self.alarm_step = step if self.alarm_step is None else self.alarm_step
        since = f" since step {verdict.began:,}" if verdict.began is not None else ""
        warn_on_stderr(f"step {step:,}: {verdict.title}{since}. {verdict.detail} {verdict.advice}", "ALARM")
        if verdict.kind in COLLAPSES:
            self.on_alarm(step, verdict)
