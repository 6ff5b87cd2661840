"""The trainer's hand in a run directory: state, step log, evaluations, events and a heartbeat, for any training loop."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from backend.load import UNREADABLE, LoadMeter
from shared.layout import RunLayout
from shared.reader import JsonlTail
from shared.schema import ALLOWED_TRANSITIONS, Event, EventKind, Heartbeat, RunInfo, RunState, now
from shared.writer import JsonlWriter, cut_after_step, warn_on_stderr, write_record

HEARTBEAT_EVERY = timedelta(seconds=1)
FLUSH_AFTER_S = 0.5
FLUSH_AFTER_STEPS = 64
QUIET_AFTER_WARNING_S = 300.0


class Alarm:
    """Says the first of many failures of one kind, such as logs on a full disk, and keeps the rest to itself for five minutes.

    `tell` also hears what is said.
    """

    def __init__(self, tell: Callable[[str], None] = lambda message: None) -> None:
        self.quiet_for = QUIET_AFTER_WARNING_S
        self.tell = tell
        self._said_at: dict[str, float] = {}

    def __call__(self, message: str, kind: str | None = None) -> None:
        """Warn on stderr, unless something of this `kind` was said a short time ago; without a kind always."""
        if kind is not None:
            if time.monotonic() - self._said_at.get(kind, -math.inf) < self.quiet_for:
                return
            self._said_at[kind] = time.monotonic()
        warn_on_stderr(message)
        self.tell(message)


Packed = tuple[list[str], Tensor]
"""Names and values of one step on one device."""


def pack(staged: Mapping[str, Tensor]) -> list[Packed]:
    """One vector per device of staged tensors; names of a vector are joined by spaces."""
    groups: dict[torch.device, list[tuple[str, Tensor]]] = {}
    for joined, value in staged.items():
        groups.setdefault(value.device, []).append((joined, value.detach().reshape(-1).float()))
    return [
        ([name for joined, _ in group for name in joined.split()], torch.cat([value for _, value in group]))
        for group in groups.values()
    ]


def unpack(lines: list[list[Packed]]) -> list[dict[str, float]]:
    """Values by name of each line, with one copy per device for all of them."""
    vectors: dict[torch.device, list[Tensor]] = {}
    for _, values in chain.from_iterable(lines):
        vectors.setdefault(values.device, []).append(values)
    numbers = {device: iter(torch.cat(parts).tolist()) for device, parts in vectors.items()}
    return [{name: next(numbers[values.device]) for names, values in line for name in names} for line in lines]


class NoWriter:
    """In place of a log file, for the helper processes of a run on several devices."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Nothing."""

    def write_record(self, record: Event) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class RunRecorder:
    """Writes one run. Values of a step are `put` from anywhere and become one line at `commit`.

    On a GPU the values stay there: lines are held back for up to half a second and copied together, so that no step
    waits for the device. A failing disk warns once for each kind of file and does not stop training.
    """

    def __init__(self, layout: RunLayout, info: RunInfo, *, writes: bool = True) -> None:
        self.layout = layout
        self.info = info
        self.writes = writes
        self.beat = Heartbeat(pid=os.getpid(), host=socket.gethostname(), max_steps=info.max_steps)
        self.warn = Alarm(lambda message: self.event("warning", self.beat.step, message))
        self.on_line: Callable[[int, dict[str, Any], list[str]], None] = lambda step, values, nonfinite: None
        """Told of every line of the step log as it is written, with the names of its values that are NaN or infinite."""
        self.paused_s = 0.0
        """Seconds since the last step's line that were not training: probes, pictures, checkpoints."""
        self.gpu: torch.device | None = None
        """The one that the values of the steps come from; None before the first of them, and where there is none."""
        self._metrics, self._evaluations, self._events = (
            JsonlWriter(path, partial(self.warn, kind="records"), partial(self.warn, kind="recovery")) if writes else NoWriter()
            for path in (layout.metrics, layout.evaluations, layout.events)
        )
        self._staged: dict[str, Any] = {}
        self._held: list[tuple[int, dict[str, Any], list[Packed]]] = []
        self._flushed_at = time.monotonic()
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def begin(self, from_step: int = 0) -> None:
        """Enter `running` and start the heart. Records beyond `from_step` belong to work that is made again: put away."""
        self.beat.step = from_step
        if not self.writes:
            return
        for path in (self.layout.metrics, self.layout.evaluations, self.layout.events):
            cut_after_step(path, from_step, self.layout.discarded / path.name)
        self._write_beat()  # before run.json says that it runs: who reads both must not see the beat of an earlier session
        self.set_state(RunState.RUNNING, from_step)
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    def set_state(self, state: RunState, step: int, error: str | None = None) -> None:
        """Move the state machine and write run.json."""
        if state not in ALLOWED_TRANSITIONS[self.info.state]:
            raise ValueError(f"a {self.info.state} run cannot become {state}")
        self.info.state, self.info.state_since, self.info.error = state, now(), error
        if state is not RunState.RUNNING and self.info.sessions:
            self.info.sessions[-1].ended_at = self.info.state_since
        self.save_info()
        self.event("state", step, f"run is {state}" + (f": {error}" if error else ""), state=state.value)

    def save_info(self) -> None:
        """Replace run.json."""
        try:
            if self.writes:
                write_record(self.layout.run_json, self.info, durable=True)
        except OSError as error:
            self.warn(f"cannot write {self.layout.run_json}: {error.strerror}; the run's state may be out of date", "records")

    def event(self, kind: EventKind, step: int, message: str, /, **data: Any) -> None:
        """Append one event."""
        self._events.write_record(Event(step=step, kind=kind, message=message, data=data))

    def evaluation(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one evaluation ("probe" or "validation") made after `step`."""
        self._evaluations.write(step, {"kind": kind, **values})

    def evaluations(self, kind: str) -> list[dict[str, Any]]:
        """The evaluations of one kind written so far, in step order."""
        return [row for row in JsonlTail(self.layout.evaluations).read() if row.get("kind") == kind]

    def put(self, name: str, value: Tensor | float | None) -> None:
        """Stage one value of the step in hand; a tensor has to be a scalar and may live on the device."""
        self._staged[name] = value

    def put_all(self, names: tuple[str, ...], values: Tensor) -> None:
        """Stage a vector of values, one name each."""
        self._staged[" ".join(names)] = values

    def commit(self, step: int) -> None:
        """Make the staged values the line of `step`."""
        if not self.writes:
            self._staged, self.beat.step = {}, step
            return
        plain = {"time": round(time.time(), 3)}
        plain |= {name: value for name, value in self._staged.items() if not isinstance(value, Tensor)}
        packed = pack({name: value for name, value in self._staged.items() if isinstance(value, Tensor)})
        self._staged = {}
        self._held.append((step, plain, packed))
        self.beat.step = step
        self.gpu = next((values.device for _, values in packed if values.is_cuda), self.gpu)
        waited = time.monotonic() - self._flushed_at
        if not self.holds(packed) or len(self._held) >= FLUSH_AFTER_STEPS or waited > FLUSH_AFTER_S:
            self.flush()

    def holds(self, packed: list[Packed]) -> bool:
        """Whether a line may wait: reading it now would wait for a GPU."""
        return any(values.is_cuda for _, values in packed)

    def flush(self) -> None:
        """Write the lines held back. A checkpoint has to find them on the disk, else a kill leaves a gap in the log."""
        held, self._held = self._held, []
        self._flushed_at = time.monotonic()
        if not held:
            return
        for (step, plain, _), measured in zip(held, unpack([packed for *_, packed in held]), strict=True):
            values = {**plain, **measured}
            self._metrics.write(step, values)
            bad = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
            self.on_line(step, values, bad)

    def end(self, state: RunState, error: str | None = None) -> None:
        """Write what is left and the final state, and stop the heart."""
        self.flush()
        if not self.writes:
            return
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        self.beat.phase = "stopped"
        self._write_beat()
        self.set_state(state, self.beat.step, error)
        self.warn.quiet_for = 0.0  # what is lost for good is said in any case
        self._metrics.close()
        self._evaluations.close()
        self.warn.tell = lambda message: None
        self._events.close()

    def abandon(self, error: str) -> None:
        """End as failed from another thread, without the lines that wait for a device which may never answer."""
        self._held = []
        self.event("error", self.beat.step, error)
        self.end(RunState.FAILED, error)

    def _beat(self) -> None:
        meter: LoadMeter | None = None
        while not self._stop.wait(HEARTBEAT_EVERY.total_seconds()):
            try:
                meter = meter or LoadMeter()
                self.beat.load = meter.read(self.gpu)
            except UNREADABLE:
                self.beat.load = None  # a sign of life is due all the same
            self._write_beat()

    def _write_beat(self) -> None:
        self.beat.at = now()
        try:
            write_record(self.layout.heartbeat, self.beat)
        except OSError as error:
            self.warn(f"cannot write {self.layout.heartbeat}: {error.strerror}; the run will look stale", "records")
