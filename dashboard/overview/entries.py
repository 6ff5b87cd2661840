"""What the list knows of one run, and how it is brought up to date: the heads anew when they changed, the logs from where they stopped."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from dashboard.overview.notes import read_notes
from shared.collapse import Verdict
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health, JsonlTail, RunStatus, read_status
from shared.schema import RunNotes, now
from shared.stepwise import MAY_OVERFLOW
from shared.verdicts import VerdictLog

Stamp = tuple[int, int, int]
MISSING: Stamp = (0, 0, 0)
NOT_FINITE = Verdict("nonfinite", "alarm", "NaN or infinity in training", "Values of the newest step are not finite.")
OUTSIDE = "a link to somewhere outside the runs folder; it is not followed"
TAIL_BYTES = 8192
LIVE = (Health.CREATED, Health.RUNNING, Health.STALE)
"""States that can change without a file that changes: a process dies, a heartbeat stays away."""


@dataclass(frozen=True)
class RunSummary:
    """What the list shows of a run."""

    status: RunStatus
    verdict: Verdict | None = None
    best_auroc: float | None = None
    """Of validations on one sample; of the whole split where that alone was evaluated."""
    auroc_on: str = ""
    """How many stays that was on, and what the whole split gave."""
    active_units: float | None = None
    latent_dims: float | None = None
    not_finite: bool = False
    notes: RunNotes = field(default_factory=RunNotes)
    complete: bool = True
    """False until the logs have been read: verdict and figures are not known yet."""

    @property
    def concern(self) -> Verdict | None:
        """The verdict, unless the newest training step is not finite: that comes first."""
        return NOT_FINITE if self.not_finite else self.verdict

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.status.name

    @property
    def step(self) -> int:
        """The last step the run reported."""
        return self.status.heartbeat.step if self.status.heartbeat else 0

    @property
    def max_steps(self) -> int | None:
        """Planned steps, when known."""
        heartbeat, info = self.status.heartbeat, self.status.info
        return (heartbeat.max_steps if heartbeat else None) or (info.max_steps if info else None)

    @property
    def duration_s(self) -> float | None:
        """Seconds in which a process worked on it, to the last sign of life; a pause after one that left no word is counted."""
        info, heartbeat = self.status.info, self.status.heartbeat
        if info is None:
            return None
        live = self.status.health in (Health.CREATED, Health.RUNNING)
        end = now() if live else max(info.state_since, heartbeat.at) if heartbeat else info.state_since
        pauses = (
            (after.started_at - before.ended_at).total_seconds()
            for before, after in pairwise(info.sessions)
            if before.ended_at is not None
        )
        return max((end - info.created_at).total_seconds() - sum(pauses), 0.0)


def newest_first(summary: RunSummary) -> tuple[bool, float, str]:
    """The order of the list: by creation, broken runs last."""
    info = summary.status.info
    return (info is None, -info.created_at.timestamp() if info else 0.0, summary.name)


class RunEntry:
    """One folder in the runs folder. `summary` is None where it holds no run."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout
        self.summary: RunSummary | None = None
        self.unread = False
        """Whether the logs hold what `summary` does not say yet."""
        self._head_files = (layout.run_json, layout.heartbeat, layout.notes)
        self._log_files = (layout.evaluations, layout.events)
        self._heads: tuple[Stamp, ...] = ()
        self._logged: tuple[Stamp, ...] = ()
        self._head: RunSummary | None = None
        self._logs: RunLogs | None = None

    def look(self, refused: str | None) -> None:
        """Bring the summary up to date but for the logs. `refused`: why nothing of the run must be read."""
        layout = self.layout
        if refused:
            self.summary, self.unread = RunSummary(RunStatus(layout, Health.BROKEN, reason=refused)), False
            self._head, self._logs, self._logged = None, None, ()
            return
        heads, logged = _stamps(self._head_files), _stamps(self._log_files)
        if heads[0] == MISSING:
            self.summary, self.unread, self._heads, self._logged, self._logs = None, False, (), (), None
            return
        if self._head is None or heads != self._heads or self._head.status.health in LIVE:
            self._heads, self._head = heads, _read_head(layout, noted=heads[2] != MISSING)
            self._join()
        if logged != self._logged:
            self._logged, self.unread = logged, True

    def read_logs(self) -> None:
        """Take in what the logs have more than last time."""
        if self._logs is None or MISSING in self._logged:
            self._logs = RunLogs(self.layout)
        self._logs.read()
        self.unread = False
        self._join()

    def _join(self) -> None:
        head, logs = self._head, self._logs
        if head is None or logs is None:
            self.summary = head and replace(head, complete=False)
            return
        reason = "; ".join(reason for reason in (head.status.reason, logs.unreadable) if reason)
        self.summary = replace(
            head,
            status=replace(head.status, reason=reason or None),
            verdict=logs.verdict(head.status.info.config) if head.status.info else None,
            best_auroc=logs.best_auroc,
            auroc_on=logs.auroc_on,
            active_units=logs.active_units,
            latent_dims=logs.latent_dims,
        )


def _read_head(layout: RunLayout, noted: bool) -> RunSummary:
    """All of a run but its logs."""
    status, notes = read_status(layout), RunNotes()
    try:
        notes = read_notes(layout) if noted else notes
    except InputError as error:
        status = replace(status, reason=f"{status.reason}; {error}" if status.reason else str(error))
    return RunSummary(status, not_finite=_ends_not_finite(layout.metrics), notes=notes)


class RunLogs:
    """What the list takes from evaluations.jsonl and events.jsonl."""

    def __init__(self, layout: RunLayout) -> None:
        self._evaluations, self._events = JsonlTail(layout.evaluations), JsonlTail(layout.events)
        self._forget_evaluations()
        self._verdicts = VerdictLog()
        self._damaged: str | None = None
        self.unreadable: str | None = None

    def _forget_evaluations(self) -> None:
        self._best: float | None = None
        self._stays: float | None = None
        self._whole: Mapping[str, Any] | None = None
        self.active_units: float | None = None
        self.latent_dims: float | None = None

    @property
    def best_auroc(self) -> float | None:
        """Among validations on one sample: the whole split is another, and stands in only where it alone was evaluated."""
        return self._best if self._best is not None or self._whole is None else self._whole["auroc"]

    @property
    def auroc_on(self) -> str:
        """Its sample, in words."""
        parts = [f"Best of the validations on {self._stays:,.0f} stays"] if self._best is not None and self._stays else []
        if self._whole is not None:
            parts.append(f"whole split: {self._whole['auroc']:.3f} on {_number(self._whole, 'stays', None) or 0:,.0f} stays")
        return "; ".join(parts)

    def verdict(self, config: Mapping[str, Any]) -> Verdict:
        """The most serious one that holds."""
        return self._verdicts.verdicts(config)[0]

    def read(self) -> None:
        """Read what was added."""
        try:
            rows, events = self._evaluations.read(), self._events.read()
        except OSError as error:
            self.unreadable = f"{Path(error.filename).name}: {error.strerror}"
            return
        if self._evaluations.restarted:
            self._forget_evaluations()
        for row in rows:
            self._take(row)
        if self._events.restarted:
            self._verdicts, self._damaged = VerdictLog(), None
        for event in events:
            self._damaged = self._verdicts.take(event) or self._damaged
        self.unreadable = f"events.jsonl: {self._damaged}" if self._damaged else None

    def _take(self, row: Mapping[str, Any]) -> None:
        if row.get("kind") == "validation":
            score = row.get("auroc")
            if row.get("full") is True:
                self._whole = row if isinstance(score, float) else self._whole
                return
            self._stays = _number(row, "stays", self._stays)
            if isinstance(score, float) and (self._best is None or score > self._best):
                self._best = score
        elif row.get("kind") == "probe":
            self.active_units = _number(row, "active_units", self.active_units)
            self.latent_dims = _number(row, "latent_dims", self.latent_dims)


def _number(row: Mapping[str, Any], name: str, before: float | None) -> float | None:
    value = row.get(name)
    return value if isinstance(value, int | float) else before


def _stamps(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError:  # no permission, say: something is there, and reading it tells what is wrong
        return (-1, -1, -1)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _ends_not_finite(path: Path) -> bool:
    """Whether the newest whole line of a metrics log has NaN or infinity where it must not be."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
            lines = file.read().split(b"\n")[:-1]
        row = orjson.loads(lines[-1]) if lines else None
    except (OSError, orjson.JSONDecodeError):
        return False
    names = row.get("nonfinite") if isinstance(row, dict) else None
    return isinstance(names, list) and any(name not in MAY_OVERFLOW for name in names)
