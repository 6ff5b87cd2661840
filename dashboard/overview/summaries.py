"""One line per run for the list of runs. What changed is read again, logs go on where they stopped, and nothing else is touched.

Reading 2,000 runs anew takes about half a second, newest first, and a page shows those that have been read. Later the watcher's
revisions tell which runs have changed: one that trains costs a look at its own folder and at the names of the others, however
many they are.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dashboard.overview.entries import LIVE, OUTSIDE, RunEntry, RunSummary, newest_first
from dashboard.runs.links import leads_out
from dashboard.runs.loading import resolve_folder
from dashboard.runs.watch import LIST
from shared.layout import RunLayout, iter_runs

__all__ = ["Changes", "RunSummary", "Summaries"]

SWEEP_S = 60.0
"""Seconds after which all runs are looked at again, whatever the watcher said: it can lose events."""
SLICE_S = 0.05
SURROGATE = re.compile("[\ud800-\udfff]")
STAMP = re.compile(r"-(\d{8})-(\d{6})")
ANNOUNCE_S = 0.3
TICK_NS = 2_000_000_000
"""Younger than this, the time of a folder's last change does not tell whether there was another one since."""


@dataclass(frozen=True)
class Changes:
    """What became of the list since an earlier look at it."""

    serial: int
    runs: list[RunSummary]
    gone: list[str]
    unread: int
    """Runs of which something is still to be read."""


@dataclass
class _Known:
    """A folder, the watcher's revision at which it was looked at last, and the serial of its last change."""

    entry: RunEntry
    link: bool
    fresh: bool = True
    """Never looked into so far."""
    revision: int | None = None
    changed: int = 0

    @property
    def is_live(self) -> bool:
        """Whether its state can change without a file that changes."""
        return self.entry.summary is not None and self.entry.summary.status.health in LIVE


class Summaries:
    """Summaries of all runs below a folder; may be used from any thread.

    Without `revision` (of a run, or of the list) every look is at all files. `announce` is told when a thread has read more logs.
    """

    def __init__(
        self, runs: Path, revision: Callable[[str], int] | None = None, announce: Callable[[], None] | None = None
    ) -> None:
        self.runs = runs
        self._revision = revision
        self._announce = announce
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._fresh: list[str] = []
        """Folders that were never looked into, the newest last."""
        self._gone: dict[str, int] = {}
        self._serial = 0
        self._listed: int | None = None
        self._names: dict[str, bool] = {}
        self._listed_at = 0
        self._swept = float("-inf")
        self._reading: threading.Thread | None = None

    def all(self) -> list[RunSummary]:
        """Every run, newest first; broken ones last. Waits until all logs have been read."""
        with self._lock:
            self._look()
            self._read(float("inf"))
            return self._sorted()

    def heads(self) -> list[RunSummary]:
        """Every run in the same order, without waiting for logs: verdict and figures need not be known yet."""
        with self._lock:
            self._look()
            self._read_fresh(float("inf"), logs=False)
            return self._sorted()

    def names(self) -> list[str]:
        """The names of all runs in the same order, without waiting for logs."""
        return [run.name for run in self.heads()]

    def is_empty(self) -> bool:
        """Whether there is no run at all; quick, for it reads none."""
        return not any(known.entry.summary for known in list(self._known.values())) and next(iter_runs(self.runs), None) is None

    def find(self, name: str) -> RunSummary | None:
        """One run, without waiting for logs; None where there is none of that name."""
        with self._lock:
            self._look()
            if name in self._fresh:
                self._read_fresh(float("inf"), logs=False)
            return self._known[name].entry.summary if name in self._known else None

    def since(self, serial: int) -> Changes:
        """Runs that changed after `serial` (0: all), newest first, and names that went. What is still unread follows later."""
        with self._lock:
            self._look()
            self._read(time.monotonic() + SLICE_S)
            gone = [name for name, at in self._gone.items() if at > serial]
            unread = len(self._fresh) + sum(known.entry.unread for known in self._known.values())
            changes = Changes(self._serial, self._sorted(serial), gone, unread)
        if changes.unread:
            self.read_ahead()
        return changes

    def recheck(self) -> Hashable:
        """Judge again what can change without a file event; returns something that differs when anything did."""
        with self._lock:
            self._look(again=True)
            return self._serial

    def distrust(self) -> None:
        """Look at everything again next time: changes may have been missed."""
        with self._lock:
            self._swept = float("-inf")

    def read_ahead(self) -> None:
        """Read what is still unread in a thread of its own, if none is at it."""
        with self._lock:
            if self._reading is None or not self._reading.is_alive():
                self._reading = threading.Thread(target=self._read_all, daemon=True, name="summaries")
                self._reading.start()

    def _read_all(self) -> None:
        with self._lock:
            self._look()
        left, told = True, time.monotonic()
        while left:
            with self._lock:
                left = self._read(time.monotonic() + SLICE_S)
            if self._announce and (not left or time.monotonic() - told > ANNOUNCE_S):
                self._announce()
                told = time.monotonic()
            time.sleep(0.001)  # a lock is not fair: whoever waits for it would not get it otherwise

    def _sorted(self, after: int = 0) -> list[RunSummary]:
        found = (known.entry.summary for known in self._known.values() if known.changed > after)
        return sorted((summary for summary in found if summary), key=newest_first)

    def _look(self, again: bool = False) -> None:
        """Compare the folder with what is known, and read all but the logs of what changed."""
        revision = self._revision(LIST) if self._revision else None
        sweep = self._revision is None or time.monotonic() - self._swept > SWEEP_S
        self._listed_at = 0 if sweep else self._listed_at
        if not (again or sweep or revision != self._listed):
            return
        found = self._folders()
        for name in self._known.keys() - found.keys():
            known = self._known.pop(name)
            self._update(name, known, known.entry.summary, None)
        new = found.keys() - self._known.keys()
        for name in sorted(new, key=self._made_at):
            self._known[name] = _Known(RunEntry(RunLayout(self.runs / name)), found[name])
            self._fresh.append(name)
        for name, known in self._known.items():
            if known.fresh or not (sweep or known.revision != self._of(name) or (again and known.is_live)):
                continue
            known.link = found[name]
            self._look_into(name, known)
        self._listed = revision
        if sweep:
            self._swept = time.monotonic()

    def _of(self, name: str) -> int | None:
        return self._revision(name) if self._revision else None

    def _look_into(self, name: str, known: _Known) -> None:
        known.fresh, known.revision = False, self._of(name)
        before = known.entry.summary
        outside = known.link and resolve_folder(self.runs, name) is None
        known.entry.look(OUTSIDE if outside else leads_out(self.runs / name))
        self._update(name, known, before, known.entry.summary)

    def _folders(self) -> dict[str, bool]:
        """Names of what may hold a run, each with whether it is a link; listed anew when the folder has changed."""
        try:
            changed = self.runs.stat().st_mtime_ns
            if changed != self._listed_at or time.time_ns() - changed < TICK_NS:
                with os.scandir(self.runs) as entries:
                    self._names = {one.name: one.is_symlink() for one in entries if _may_be_shown(one.name) and _is_folder(one)}
                self._listed_at = changed
        except OSError:  # the folder itself went; the watcher looks out for it
            self._names, self._listed_at = {}, 0
        return self._names

    def _made_at(self, name: str) -> float:
        """About when a run began, without reading it: by the time in its name, as the trainer gives it, or by its folder's."""
        try:
            found = STAMP.search(name)
            if found:
                return datetime.fromisoformat(f"{found[1]}T{found[2]}").timestamp()
            return (self.runs / name).stat().st_mtime
        except (ValueError, OSError):
            return 0.0

    def _read(self, until: float) -> bool:
        """Read what is unread, newest run first; whether something is left at that time."""
        return self._read_fresh(until, logs=True) or self._read_logs(until)

    def _read_fresh(self, until: float, logs: bool) -> bool:
        while self._fresh:
            name = self._fresh.pop()
            known = self._known.get(name)
            if known is None:
                continue
            self._look_into(name, known)
            if logs and known.entry.unread:
                self._read_log(name, known)
            if time.monotonic() > until:
                return bool(self._fresh)
        return False

    def _read_logs(self, until: float) -> bool:
        unread = [(known.entry.summary, name) for name, known in self._known.items() if known.entry.unread]
        order = sorted((newest_first(summary), name) for summary, name in unread if summary)
        for done, (_, name) in enumerate(order, start=1):
            self._read_log(name, self._known[name])
            if time.monotonic() > until:
                return done < len(order)
        return False

    def _read_log(self, name: str, known: _Known) -> None:
        before = known.entry.summary
        known.entry.read_logs()
        self._update(name, known, before, known.entry.summary)

    def _update(self, name: str, known: _Known, before: RunSummary | None, after: RunSummary | None) -> None:
        """Count up when a summary is no longer what it was."""
        if after is before or after == before:
            return
        self._serial += 1
        known.changed = self._serial
        if after is None:
            self._gone[name] = self._serial
        else:
            self._gone.pop(name, None)


def _may_be_shown(name: str) -> bool:
    """Folders with a dot in front are no runs; names that are not UTF-8 could not be sent to a page."""
    return not name.startswith(".") and (name.isascii() or SURROGATE.search(name) is None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads in a circle is none, and hides no other."""
    try:
        return entry.is_dir()
    except OSError:
        return False
