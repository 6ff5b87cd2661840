"""Run directories as the pages need them: read piece by piece as they grow, shared between sessions, bounded."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from shared.collapse import Verdict
from shared.drawing import Role
from shared.layout import RunLayout
from shared.reader import Health, JsonlTail, RunStatus, read_status
from shared.series import Series, of_column, of_rows
from shared.verdicts import VerdictLog, nonfinite_steps

T = TypeVar("T")
MAX_OPEN_RUNS = 8
MAX_EVENTS = 500
MAX_PROBLEMS = 20


def resolve_run(runs: Path, name: str) -> RunLayout | None:
    """The folder directly under `runs` with that name; None for anything else, be it `..`, a path or a link to elsewhere."""
    if not name or name.startswith(".") or "\0" in name or Path(name).name != name or "\\" in name:
        return None
    root = runs / name
    try:
        inside = root.resolve().parent == runs.resolve() and root.is_dir()
    except OSError:
        return None
    return RunLayout(root) if inside else None


def folder_token(root: Path, *names: str) -> str:
    """Changes when a file appears in, leaves, or is replaced in one of these folders of a run."""
    return "-".join(str(_changed_at(root / name)) for name in names)


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


class Columns:
    """Numeric columns that grow at the end. Views handed out stay valid: only what lies behind them is written."""

    def __init__(self) -> None:
        self.rows = 0
        self._arrays: dict[str, np.ndarray] = {}

    def append(self, frame: pd.DataFrame) -> None:
        """Add the numeric columns of `frame`; what is missing in it, or was missing before, is NaN."""
        end = self.rows + len(frame)
        for name in frame.columns:
            values = _numeric(frame[name])
            if name not in self._arrays:
                self._arrays[name] = np.full(max(end, 1024), np.nan)
            array = self._arrays[name]
            if end > len(array):
                array = np.concatenate([array, np.full(2 * end - len(array), np.nan)])
                self._arrays[name] = array
            array[self.rows : end] = values
        self.rows = end

    def views(self) -> dict[str, np.ndarray]:
        """Column name to its values so far."""
        return {name: _view(array, self.rows) for name, array in self._arrays.items()}


def _numeric(column: pd.Series) -> np.ndarray:
    if column.dtype == object:  # lists or text among numbers, or a column that is null throughout
        return np.array([value if isinstance(value, int | float) else np.nan for value in column], float)
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def _view(array: np.ndarray, rows: int) -> np.ndarray:
    missing = max(rows - len(array), 0)
    view = np.concatenate([array, np.full(missing, np.nan)]) if missing else array[:rows].view()
    view.flags.writeable = False
    return view


@dataclass
class NonFinite:
    """Where one metric was NaN or infinite."""

    steps: list[int] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The first such step."""
        return self.steps[0]

    @property
    def last(self) -> int:
        """The last such step."""
        return self.steps[-1]


@dataclass(frozen=True)
class Snapshot:
    """One run at one revision: what every panel of a page draws from. Not to be changed."""

    revision: int
    status: RunStatus
    training: Mapping[str, np.ndarray]
    nonfinite: Mapping[str, NonFinite]
    probes: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    events: list[dict[str, Any]]
    verdicts: list[Verdict]
    """What holds, the most serious first: at least one."""
    past: list[Verdict]
    """What has ended."""
    problems: list[str]
    drawn: dict[Any, Any] = field(default_factory=dict)

    @property
    def steps(self) -> np.ndarray:
        """Steps of the training log."""
        return self.training.get("step", np.empty(0))

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The options of the run, as far as its run.json has them."""
        return self.status.info.config if self.status.info else {}

    def config(self, group: str, option: str, default: T) -> T:
        """An option of the run, or `default` where a partial run.json lacks it."""
        options = self.configuration.get(group)
        value = options.get(option) if isinstance(options, dict) else None
        return default if value is None else value

    def series(self, role: Role, name: str) -> Series:
        """Steps and values of one metric. NaN where it was not finite; steps at which it was not measured are left out."""
        if role == "training":
            bad = self.nonfinite.get(name)
            return of_column(self.steps, self.training.get(name), bad.steps if bad else ())
        return of_rows(self.probes if role == "probe" else self.validations, name)

    def latest(self, role: Role, name: str) -> float | None:
        """The newest value of a metric; NaN if it was not finite, None if it was never measured."""
        if role == "training":
            bad, values = self.nonfinite.get(name), self.training.get(name)
            if bad and bad.last == self.steps[-1]:
                return float("nan")
            if values is not None and len(values) and np.isfinite(values[-1]):
                return float(values[-1])
        _, values = self.series(role, name)
        return float(values[-1]) if len(values) else None

    def first_nonfinite(self, name: str) -> int | None:
        """The first step at which a metric of the step log was NaN or infinite."""
        return self.nonfinite[name].first if name in self.nonfinite else None

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """`make()`, remembered for this revision: several open pages share one figure."""
        if key not in self.drawn:
            self.drawn[key] = make()
        return self.drawn[key]


class RunLog:
    """The logs of one run, read incrementally. `snapshot` may be called from any thread."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout
        self._lock = threading.Lock()
        self._metrics, self._evaluations, self._events = (
            JsonlTail(path) for path in (layout.metrics, layout.evaluations, layout.events)
        )
        self._columns = Columns()
        self._nonfinite: dict[str, NonFinite] = {}
        self._rows: list[dict[str, Any]] = []
        self._event_rows: list[dict[str, Any]] = []
        self._verdicts = VerdictLog()
        self._snapshot: Snapshot | None = None

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
        for tail, read in (
            (self._metrics, self._read_metrics),
            (self._evaluations, lambda: self._read_rows(self._evaluations, self._rows)),
            (self._events, self._read_events),
        ):
            try:
                read()
            except OSError as error:
                problems.append(f"{tail.path.name}: {error.strerror}")
        del self._event_rows[:-MAX_EVENTS]
        return problems

    def _read_metrics(self) -> None:
        frame = self._metrics.read_frame()
        if self._metrics.restarted:
            self._columns, self._nonfinite = Columns(), {}
        if frame.empty:
            return
        for name, steps in nonfinite_steps(frame).items():
            self._nonfinite.setdefault(name, NonFinite()).steps.extend(steps)
        self._columns.append(frame.drop(columns="nonfinite", errors="ignore"))

    def _read_events(self) -> None:
        new = self._read_rows(self._events, self._event_rows)
        if self._events.restarted:
            self._verdicts = VerdictLog()
        for event in new:
            if event.get("kind") == "verdict":
                self._verdicts.add(event["data"])

    @staticmethod
    def _read_rows(tail: JsonlTail, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        new = tail.read()
        if tail.restarted:
            rows.clear()
        rows.extend(new)
        return new

    def _freeze(self, revision: int, unreadable: list[str]) -> Snapshot:
        tails = (self._metrics, self._evaluations, self._events)
        status = read_status(self.layout)
        return Snapshot(
            revision=revision,
            status=status,
            training=self._columns.views(),
            nonfinite={name: NonFinite(list(found.steps)) for name, found in self._nonfinite.items()},
            probes=[row for row in self._rows if row.get("kind") == "probe"],
            validations=[row for row in self._rows if row.get("kind") == "validation"],
            events=list(self._event_rows),
            verdicts=self._verdicts.verdicts(status.info.config if status.info else {}),
            past=list(self._verdicts.past),
            problems=unreadable + [problem for tail in tails for problem in tail.problems[-MAX_PROBLEMS:]],
        )


class Store:
    """The runs of one folder. The least recently viewed logs are forgotten when more than eight are open."""

    def __init__(self, runs: Path, revision: Callable[[str], int]) -> None:
        self.runs = runs
        self.revision = revision
        self._logs: OrderedDict[str, RunLog] = OrderedDict()
        self._lock = threading.Lock()

    def snapshot(self, name: str) -> Snapshot | None:
        """The run of that name, or None if there is no such folder (any more)."""
        layout = resolve_run(self.runs, name)
        with self._lock:
            if layout is None:
                self._logs.pop(name, None)
                return None
            run = self._logs.setdefault(name, RunLog(layout))
            self._logs.move_to_end(name)
            while len(self._logs) > MAX_OPEN_RUNS:
                self._logs.popitem(last=False)
        return run.snapshot(self.revision(name))

    def health(self, name: str) -> Health | None:
        """The state of a run without its logs."""
        layout = resolve_run(self.runs, name)
        return read_status(layout).health if layout else None
