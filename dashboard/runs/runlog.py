"""The logs of one run, read piece by piece as they grow. A large log is sampled at once and read whole in the background."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from dashboard.outlive import Outlive
from dashboard.runs.curves import Curves
from dashboard.runs.snapshot import Snapshot
from shared.layout import RunLayout
from shared.lines import sampled
from shared.reader import Health, JsonlTail, columns_of, read_status
from shared.verdicts import VerdictLog

MAX_EVENTS = 500
MAX_PROBLEMS = 20
LARGE_BYTES = 48 << 20
"""A log of up to so many bytes is read before anything is drawn: about 0.2 s."""
PIECE_BYTES = 12 << 20
SAMPLE_LINES = 1500
MOST_DIMENSION_ROWS = 512
UNREAD = "a part of it cannot be read; the dashboard's own log says why"

_background = threading.BoundedSemaphore(2)
"""Large logs that are read at the same time, over all runs: more would only take the processor from the pages."""

_generations = count(1)


class Dimensions:
    """KL of each dimension at each probe evaluation, thinned by joining neighbours when there are many. Views stay valid."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._kl: list[np.ndarray] = []

    def add(self, step: int, kl: object) -> None:
        """One evaluation; anything but a list of as many numbers as before is left out."""
        if not isinstance(kl, list) or (self._kl and len(kl) != len(self._kl[0])):
            return
        self._steps.append(step)
        self._kl.append(np.array([value if isinstance(value, int | float) else np.nan for value in kl], np.float32))
        if len(self._kl) > MOST_DIMENSION_ROWS:
            odd = [self._kl[-1]] if len(self._kl) % 2 else []
            pairs = zip(self._kl[::2], self._kl[1::2], strict=False)
            self._kl = [(first + second) / 2 for first, second in pairs] + odd
            self._steps = self._steps[::2]

    def view(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps [n] and KL in nats [n, D]."""
        return np.array(self._steps), np.stack(self._kl) if self._kl else np.empty((0, 0), np.float32)


class StepLog:
    """metrics.jsonl as curves. `generation` changes when the file was replaced, and when a sample gave way to all of it."""

    def __init__(self, tail: JsonlTail, changed: Callable[[], None]) -> None:
        self.tail = tail
        self.curves = Curves()
        self.generation = next(_generations)
        self.share: float | None = None
        """How much of a large log has been read; None: all of it."""
        self._changed = changed
        self.unread = False
        """Whether a part of it could be understood by nobody."""
        self._begun = False
        self._away: Curves | None = None
        """What is being read in the background."""
        self._whole: Curves | None = None
        self._failed: OSError | None = None
        self._stopped = threading.Event()

    def read(self) -> None:
        """Take in what is new. Raises OSError when the file cannot be read; the next call tries again, from where it stopped."""
        if not self._begun:
            size = self.tail.path.stat().st_size if self.tail.path.exists() else 0
            if size > LARGE_BYTES:
                self._sample()
            self._begun = True
        if self._failed is not None:
            failed, self._failed, self.share = self._failed, None, None
            raise failed
        if self._whole is not None:
            self.curves, self._away, self._whole, self.share = self._whole, None, None, None
            self.generation = next(_generations)
        if self._away is not None:
            if self.share is None:
                self._begin(self._away)
            return
        self.curves, more = self._piece(self.curves)
        while more:
            self.curves, more = self._piece(self.curves)

    def stop(self) -> None:
        """End the reading in the background."""
        self._stopped.set()

    def _sample(self) -> None:
        self.curves.extend(columns_of(b"".join(sampled(self.tail.path, SAMPLE_LINES))))
        self._away = Curves()

    def _begin(self, curves: Curves) -> None:
        self.share = 0.0
        threading.Thread(target=self._read_all, args=(curves,), name=f"reads {self.tail.path.parent.name}", daemon=True).start()

    def _read_all(self, curves: Curves) -> None:
        """On a thread of its own: nobody else touches the tail until `_whole` or `_failed` is there."""
        told, more, read = 0.0, True, 0
        with _background:
            try:
                while more and not self._stopped.is_set():
                    curves, more = self._piece(curves)
                    read += PIECE_BYTES
                    self.share = share = read / (read + self.tail.left)
                    if share - told > 0.1:
                        told = share
                        self._changed()
            except OSError as error:
                self._away, self._failed = curves, error
            else:
                self._whole = None if self._stopped.is_set() else curves
        self._changed()

    def _piece(self, curves: Curves) -> tuple[Curves, bool]:
        with Outlive(f"reading {self.tail.path}", but=(OSError,)) as piece:
            new = self.tail.read_columns(PIECE_BYTES)
            if self.tail.restarted:
                curves, self.unread = Curves(), False
                self.generation = next(_generations)
            curves.extend(new)
        self.unread |= piece.failed
        return curves, self.tail.left > 0


class RunLog:
    """All logs of one run. `snapshot` may be called from any thread; `changed` is told when the background has news."""

    def __init__(self, layout: RunLayout, changed: Callable[[], None] = lambda: None) -> None:
        self.layout = layout
        self._lock = threading.Lock()
        self._evaluations, self._events = JsonlTail(layout.evaluations), JsonlTail(layout.events)
        self._steps = StepLog(JsonlTail(layout.metrics), changed)
        self._probes: list[dict[str, Any]] = []
        self._validations: list[dict[str, Any]] = []
        self._dimensions = Dimensions()
        self._event_rows: list[dict[str, Any]] = []
        self._verdicts = VerdictLog()
        self._damaged: list[str] = []
        """Events that cannot be read."""
        self._unread: set[str] = set()
        """Files of which something was understood by nobody."""
        self._snapshot: Snapshot | None = None

    @property
    def bytes(self) -> int:
        """Memory that the curves take."""
        return self._steps.curves.bytes

    @property
    def health(self) -> Health | None:
        """The state in the newest snapshot."""
        newest = self._snapshot
        return newest.status.health if newest else None

    def close(self) -> None:
        """Forget the run: what is still being read in the background ends."""
        self._steps.stop()

    def snapshot(self, revision: int) -> Snapshot:
        """The run now; files are touched only if `revision` is newer than what was read last."""
        with self._lock:
            if self._snapshot is None or self._snapshot.revision != revision:
                unreadable = self._read()
                self._snapshot = self._freeze(revision, unreadable)
            return self._snapshot

    def _read(self) -> list[str]:
        """Read what is new; returns what could not be opened."""
        problems = []
        for path, read in (
            (self.layout.metrics, self._steps.read),
            (self.layout.evaluations, self._read_evaluations),
            (self.layout.events, self._read_events),
        ):
            try:
                with Outlive(f"reading {path}", but=(OSError,)) as reading:
                    read()
            except OSError as error:
                problems.append(f"{path.name}: {error.strerror}")
            if reading.failed:
                self._unread.add(path.name)
        unread = self._unread | ({self.layout.metrics.name} if self._steps.unread else set())
        return problems + [f"{name}: {UNREAD}" for name in sorted(unread)]

    def _read_evaluations(self) -> None:
        new = self._evaluations.read()
        if self._evaluations.restarted:
            self._probes, self._validations, self._dimensions = [], [], Dimensions()
        for row in new:
            if row.get("kind") == "probe":
                listed = row.pop("per_dim", None)
                if isinstance(listed, dict):
                    self._dimensions.add(row["step"], listed.get("kl"))
                self._probes.append(row)
            elif row.get("kind") == "validation":
                self._validations.append(row)

    def _read_events(self) -> None:
        new = self._events.read()
        if self._events.restarted:
            self._event_rows, self._verdicts, self._damaged = [], VerdictLog(), []
        found = (self._verdicts.take(event) for event in new)
        self._damaged += [f"{self.layout.events.name}: {problem}" for problem in found if problem]
        self._event_rows = (self._event_rows + new)[-MAX_EVENTS:]

    def _freeze(self, revision: int, unreadable: list[str]) -> Snapshot:
        status, steps = read_status(self.layout), self._steps
        tails = (steps.tail, self._evaluations, self._events)
        return Snapshot(
            revision=revision,
            status=status,
            training=steps.curves.views(),
            last_step=steps.curves.last_step,
            nonfinite=dict(steps.curves.nonfinite),
            generation=steps.generation,
            reading=steps.share,
            probes=list(self._probes),
            validations=list(self._validations),
            dimensions=self._dimensions.view(),
            events=self._event_rows,
            verdicts=self._verdicts.verdicts(status.info.config if status.info else {}),
            past=list(self._verdicts.past),
            forecast=self._verdicts.forecast,
            problems=unreadable
            + self._damaged[-MAX_PROBLEMS:]
            + [problem for tail in tails for problem in tail.problems[-MAX_PROBLEMS:]],
        )
