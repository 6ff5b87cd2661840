"""A run folder made of a TensorBoard log: every page shows it, as far as what was logged goes."""

import contextlib
import heapq
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.tensorboard_logs import LogReader
from backend.tensorboard_places import places
from backend.tensorboard_rows import merged
from backend.tensorboard_scalars import Scalars
from backend.tensorboard_tags import Tags, read_tags
from backend.tensorboard_verdicts import NOTHING_SERIOUS, in_words, judge_scalars, verdicts_of
from shared.collapse import PRESETS, Verdict
from shared.detector import Detector
from shared.drawing import Role
from shared.layout import RunLayout
from shared.schema import Event, Heartbeat, Imported, RunInfo, RunState, Session, now
from shared.verdicts import BACKGROUND, VerdictLog, said, verdict_data
from shared.writer import JsonlWriter, encode_line, write_record

HELD_OUT_SOURCE = "held-out figures of a TensorBoard log"
BY_SCALARS = Verdict(
    "insufficient", "info", "Judged by logged scalars alone",
    "They show what is wrong with a posterior and never that it is well: a KL that looks healthy may be clamped by free bits or "
    "weighted by beta.",
)  # fmt: skip
RESERVED = frozenset({"time", "kind", "source", "nonfinite"})
ROLES: tuple[Role, ...] = ("training", "validation", "probe")
Line = tuple[int, bytes]
Told = Callable[[int], None]


@dataclass
class LogImport:
    """Writes what `reader` has read into the folder of `layout`."""

    reader: LogReader
    layout: RunLayout
    given: Mapping[str, str] = field(default_factory=dict)
    """Names to tags, as asked for"""
    mean_over: int | None = None
    verdicts: VerdictLog = field(default_factory=VerdictLog)

    @property
    def tags(self) -> Tags:
        """What is judged as what. Raises InputError for a given tag that there is not."""
        return read_tags({tag: len(values) for tag, values in self.reader.log.scalars.items()}, self.given)

    def named_tags(self) -> dict[str, str]:
        """Names of the run's figures to their tags, as in `backend.tensorboard_tags`; tags that keep their own name are left out."""
        before: dict[Role, str] = {"training": "", "validation": "val_", "probe": "probe_"}
        return {before[role] + name: tag for (role, name), tag in places(self.tags).items() if name != tag}

    def series(self, role: Role) -> dict[str, Scalars]:
        """The values that belong into one kind of row, by name."""
        scalars = self.reader.log.scalars
        return {name: scalars[tag] for (own, name), tag in places(self.tags).items() if own == role}

    def newest(self) -> dict[Role, int]:
        """The last step of each kind of row: a trainer may count iterations in one and epochs in another."""
        return {role: max((one.last_step for one in self.series(role).values()), default=-1) for role in ROLES}

    def write(self, state: RunState, told: Told = lambda count: None) -> None:
        """All files of the run anew, run.json last; each appears whole. `told` hears of the rows of the step log.

        While the log grows (state running) the newest step of each kind of row is left out: more of it may be still to come.

        Raises:
            OSError: the folder cannot be written.
        """
        self.layout.root.mkdir(parents=True, exist_ok=True)
        self.verdicts = VerdictLog()
        ends = self.newest() if state is RunState.RUNNING else {}
        with replaced(self.layout.metrics) as path, path.open("wb") as file:
            for count, (_, line) in enumerate(self.step_lines(end=ends.get("training")), start=1):
                file.write(line)
                if count % 1000 == 0:
                    told(1000)
        with replaced(self.layout.evaluations) as path, path.open("wb") as file:
            file.writelines(line for _, line in self.evaluation_lines(ends=ends))
        with replaced(self.layout.events) as path:
            events = JsonlWriter(path)
            for event in self.events(state):
                events.write_record(event)
            events.close()
        self.write_beat(state)
        self.write_info(state)

    def step_lines(self, after: int = -1, end: int | None = None) -> Iterator[Line]:
        """Lines of metrics.jsonl beyond the step `after` and before `end`, each with the `time` at which it was logged."""
        for table in merged(self.series("training"), after):
            for step, wall, values in table.rows():
                if end is not None and step >= end:
                    return
                yield step, encode_line(step, own(values) | {"time": round(wall, 3)})

    def evaluation_lines(self, afters: Mapping[Role, int] = {}, ends: Mapping[Role, int] = {}) -> Iterator[Line]:
        """Lines of evaluations.jsonl beyond `afters` and before `ends`: held-out figures of the outcome and losses, and of the posterior."""
        kinds: tuple[tuple[Role, dict[str, str]], ...] = (("validation", {}), ("probe", {"source": HELD_OUT_SOURCE}))
        rows = (self._evaluations(kind, more, afters.get(kind, -1), ends.get(kind)) for kind, more in kinds)
        return heapq.merge(*rows, key=lambda line: line[0])

    def _evaluations(self, kind: Role, more: dict[str, str], after: int, end: int | None) -> Iterator[Line]:
        for table in merged(self.series(kind), after):
            for step, wall, values in table.rows():
                if end is not None and step >= end:
                    return
                yield step, encode_line(step, own(values) | {"kind": kind, "time": round(wall, 3), **more})

    def events(self, state: RunState) -> Iterator[Event]:
        """What can be told of the run: begin and end, verdicts in the order in which they came, what could not be read."""
        yield Event(
            at=self.at(0),
            step=0,
            kind="state",
            message=f"run is running; imported from the TensorBoard log {self.reader.log.path}",
            data={"state": "running"},
        )
        yield from self.verdict_events()
        last = self.reader.log.last_step
        for note in self.reader.log.notes:
            yield Event(at=self.at(last), step=last, kind="warning", message=note)
        if state is not RunState.RUNNING:
            yield Event(at=self.at(last), step=last, kind="state", message=f"run is {state}", data={"state": state.value})

    def verdict_events(self) -> list[Event]:
        """What the detector of `diagnose` says beyond what is in `verdicts`, and adds it there."""
        found: list[Event] = []
        limits, last = PRESETS["balanced"], self.reader.log.last_step
        judge = judge_scalars(
            self.reader.log, self.tags, limits, self.mean_over, lambda *heard: found.extend(self._new(*heard))
        )
        found.extend(self._new(last, judge))
        return found

    def judge_again(self) -> list[Event]:
        """The events of a log that has grown: what holds now and is not said yet."""
        detector = judge_scalars(self.reader.log, self.tags, PRESETS["balanced"], self.mean_over)
        return list(self._new(self.reader.log.last_step, detector))

    def _new(self, step: int, detector: Detector) -> Iterator[Event]:
        tags, log = self.tags, self.reader.log
        past = [in_words(verdict, tags, self.mean_over, detector.limits) for verdict in detector.past]
        now = [v for v in verdicts_of(detector, log, tags, self.mean_over) if v is not NOTHING_SERIOUS]
        now += [] if any(v.kind in BACKGROUND for v in now) else [BY_SCALARS]
        for verdict in list(self.verdicts.changes(now, past, step)):
            self.verdicts.add(verdict_data(verdict))
            yield Event(at=self.at(step), step=step, kind="verdict", message=said(verdict), data=verdict_data(verdict))

    def at(self, step: int) -> datetime:
        """When the log was at a step; for one before the first, when that was."""
        walls = [wall for scalars in self.reader.log.scalars.values() if (wall := scalars.wall_at(step)) is not None]
        if not walls:
            walls = [float(next(scalars.blocks())["wall"][0]) for scalars in self.reader.log.scalars.values() if len(scalars)]
            return datetime.fromtimestamp(min(walls), UTC)
        return datetime.fromtimestamp(max(walls), UTC)

    def write_beat(self, state: RunState) -> None:
        """heartbeat.json, as of what has been read: of now while the log grows. Raises OSError."""
        last, epoch = self.reader.log.last_step, self.series("training").get("epoch")
        beat = Heartbeat(
            pid=os.getpid(), host=socket.gethostname(), step=last, epoch=epoch.last if epoch is not None and len(epoch) else 0.0,
            phase="training" if state is RunState.RUNNING else "stopped",
        )  # fmt: skip
        beat.at = beat.at if state is RunState.RUNNING else self.at(last)
        write_record(self.layout.heartbeat, beat)

    def write_info(self, state: RunState) -> None:
        """run.json, with where the run came from. Raises OSError."""
        log, last, running = self.reader.log, self.reader.log.last_step, state is RunState.RUNNING
        began = self.at(0)
        info = RunInfo(
            name=self.layout.root.name, created_at=began, state=state, state_since=began if running else self.at(last),
            config={"hparams": log.hparams} if log.hparams else {}, max_steps=None if running else last,
            imported=Imported(
                path=str(log.path.resolve()), files=self.reader.read_so_far(), tags=self.named_tags(), kl_mean_over=self.mean_over
            ),
        )  # fmt: skip
        if running:
            command = [sys.executable, "-m", "backend", *sys.argv[1:]]
            info.sessions = [
                Session(started_at=now(), from_step=0, pid=os.getpid(), host=socket.gethostname(), command=command)
            ]
        write_record(self.layout.run_json, info, durable=True)


def own(values: Mapping[str, float]) -> dict[str, Any]:
    """Logged values under their names, of which a row needs some itself: a tag `time` is kept as `logged_time`."""
    return {f"logged_{name}" if name in RESERVED else name: value for name, value in values.items()}


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` once it is whole; a reader that follows it starts again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
