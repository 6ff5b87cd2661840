"""The bell: notices what happens to runs while nobody looks, and tells the open pages, the webhook and the command, each once."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dashboard.notify.events import new_events, skip_events
from dashboard.notify.memory import Known, Memory, changed_at, load, save, stamp
from dashboard.notify.notice import Notice, of_state, of_verdict
from dashboard.notify.send import PAUSES_S, Outlet, Way
from dashboard.outlive import Outlive
from dashboard.runs.loading import resolve_run
from shared.layout import iter_runs
from shared.reader import Health, RunStatus, read_status
from shared.schema import now

KEY = ".notices"
"""The key of notices among those that pages listen to; no run can have this name."""
CHECK_S = 5.0
"""Seconds between looks at running runs: a process that dies makes no file event."""
SETTLE_S = 0.1
SAVE_S = 10.0
"""What only says how far was read may be a little behind: a restart reads it again, by the times of the lines not twice."""
FIRST_LOOK_S = 3.0
PAUSE_S = 0.005
"""After every twenty runs of the first look."""
CLOCKS = timedelta(minutes=10)
"""How far the clocks of two machines may be apart."""
LIVE = (Health.CREATED, Health.RUNNING, Health.STALE)


class Bell:
    """Follows all runs of a folder in a thread of its own.

    Args:
        changed: told when `message` has changed.
        ways: where notices go besides the pages.
        address: of the dashboard, for links in notices.
        pauses_s: before each further try of a delivery.
        first_look_s: the first look at all runs waits so long: pages come first.
    """

    def __init__(
        self, runs: Path, changed: Callable[[], None], ways: Sequence[Way] = (), address: str = "", pauses_s: Sequence[float] = PAUSES_S,
        first_look_s: float = FIRST_LOOK_S,
    ) -> None:  # fmt: skip
        self.runs = runs
        self._changed = changed
        self.outlets = [Outlet(way, address, self._delivered, changed, pauses_s) for way in ways]
        self._first_look_s = first_look_s
        self._memory = Memory()
        self._since: datetime | None = None
        self._lock = threading.RLock()
        self._dirty: set[str] = set()
        self._live: set[str] = set()
        self._problem: str | None = None
        self._saved_at = now()
        self._stale = False
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Begin to follow. What an earlier dashboard told is known at once."""
        memory = load(self.runs)
        self._memory = memory or self._memory
        self._since = None if memory else now()
        waiting = {outlet.way.name: self._memory.waiting.get(outlet.way.name, []) for outlet in self.outlets}
        self._memory.waiting = waiting
        for outlet in self.outlets:
            outlet.start()
            for notice in list(waiting[outlet.way.name]):
                outlet.put(notice)
        self._thread.start()

    def stop(self) -> None:
        """End, and remember."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(5)
        for outlet in self.outlets:
            outlet.stop()
        with self._lock:
            if self._stale:
                self._save()

    def touch(self, keys: Iterable[str]) -> None:
        """Files of these runs have changed. May be called from any thread; returns at once."""
        names = {key for key in keys if key and not key.startswith(".")}
        if names and not names <= self._dirty:
            with self._lock:
                self._dirty |= names
            self._woken.set()

    def message(self) -> dict[str, Any]:
        """What goes to the pages: the newest notices, oldest first, the last number, and what hinders their delivery."""
        with self._lock:
            notices = [notice.model_dump(mode="json") for notice in self._memory.recent]
            last = self._memory.last
        problems = [f"{outlet.way.name}: {outlet.problem}" for outlet in self.outlets if outlet.problem]
        return {"notices": notices, "last": last, "problems": problems + ([self._problem] if self._problem else [])}

    def _run(self) -> None:
        with Outlive("the first look at all runs for notices"):
            self._meet_all()
        self._changed()
        checked = 0.0
        while not self._stopping.is_set():
            self._woken.wait(CHECK_S)
            self._stopping.wait(SETTLE_S)
            self._woken.clear()
            with self._lock:
                touched, self._dirty = self._dirty, set()
            for name in touched:
                with Outlive(f"notices of run {name}"):
                    self._look(name, only_if_changed=True)
            if time.monotonic() - checked >= CHECK_S:
                checked = time.monotonic()
                for name in list(self._live):
                    with Outlive(f"notices of run {name}"):
                        self._look(name)
            with self._lock, Outlive("remembering notices"):
                if self._stale and (now() - self._saved_at).total_seconds() > SAVE_S:
                    self._save()

    def _meet_all(self) -> None:
        """The first look: with a memory, at what happened in between; without, everything is past. Unhurried: nobody waits for it."""
        if self._stopping.wait(self._first_look_s):
            return
        found = {layout.root.name: layout for layout in iter_runs(self.runs) if _speakable(layout.root.name)}
        with self._lock:
            self._memory.runs = {name: known for name, known in self._memory.runs.items() if name in found}
        for number, (name, layout) in enumerate(found.items()):
            if self._stopping.wait(PAUSE_S if number % 20 == 0 else 0):
                return
            with Outlive(f"notices of run {name}"):
                if self._since is not None and changed_at(layout) < self._since.timestamp():
                    self._pass_over(read_status(layout))
                elif not self._memory.settled(layout):
                    self._look(name)
        with self._lock:
            self._since = None
            self._save()

    def _pass_over(self, status: RunStatus) -> None:
        known = Known(state=_state(status), stamp=stamp(status.layout))
        skip_events(status.layout.events, known, now())
        with self._lock:
            self._memory.runs[status.name] = known
        self._follow(status)

    def _look(self, name: str, only_if_changed: bool = False) -> None:
        """What is new about one run."""
        layout = resolve_run(self.runs, name)
        if layout is not None and _speakable(name):
            if not (only_if_changed and self._memory.unchanged(layout)):
                self._take_in(read_status(layout))
            return
        self._live.discard(name)
        with self._lock:
            self._stale |= self._memory.runs.pop(name, None) is not None

    def _take_in(self, status: RunStatus) -> None:
        if status.health is Health.BROKEN:  # no run, half a copy of one, or damaged: the list says so
            return
        name = status.name
        with self._lock:
            past = self._since or self._memory.looked_at - CLOCKS if name not in self._memory.runs else None
            known = self._memory.runs.setdefault(name, Known())
            before = known.model_copy(deep=True)
            known.stamp = stamp(status.layout)
            found = self._verdicts(name, known, status, past) + self._ending(known, status, past)
            self._stale |= known != before
            if found:
                self._tell(found)
        self._follow(status)

    def _verdicts(self, name: str, known: Known, status: RunStatus, past: datetime | None) -> list[Notice]:
        """Verdicts that began, or became worse; each once until it is over."""
        found = []
        for at, event in new_events(status.layout.events, known, past):
            data = event.get("data")
            if event.get("kind") != "verdict" or not isinstance(data, dict):
                continue
            subject = f"{data.get('verdict')} {data.get('level')}"
            if data.get("ended") is not None:
                known.open = [told for told in known.open if not told.startswith(subject + " ")]
                continue
            told = f"{subject} {data.get('severity')}"
            notice = of_verdict(self._memory.number(now()), name, event, at) if told not in known.open else None
            if notice is not None:
                known.open.append(told)
                found.append(notice)
        return found

    def _ending(self, known: Known, status: RunStatus, past: datetime | None) -> list[Notice]:
        """That the run ended, or its process did; not of a run that somebody copied here long after."""
        state = _state(status)
        if state == known.state:
            return []
        known.state = state
        notice = of_state(self._memory.number(now()), status)
        return [notice] if notice is not None and (past is None or notice.at > past) else []

    def _tell(self, found: list[Notice]) -> None:
        """Remembered first, then sent: a kill in between sends it after the restart."""
        for notice in found:
            self._memory.keep(notice, [outlet.way.name for outlet in self.outlets])
        self._save()
        for notice in found:
            for outlet in self.outlets:
                outlet.put(notice)
        self._changed()

    def _follow(self, status: RunStatus) -> None:
        if status.health in LIVE:
            self._live.add(status.name)
        else:
            self._live.discard(status.name)

    def _delivered(self, outlet: str, notice: Notice) -> None:
        with self._lock:
            waiting = self._memory.waiting.get(outlet, [])
            self._memory.waiting[outlet] = [other for other in waiting if other.number != notice.number]
            self._save()

    def _save(self) -> None:
        self._saved_at, self._stale = now(), False
        self._memory.looked_at = self._saved_at
        problem = save(self.runs, self._memory)
        if problem != self._problem:
            self._problem = problem
            self._changed()


def _speakable(name: str) -> bool:
    """Names of folders may hold bytes that are no text; no address and no JSON can name those."""
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _state(status: RunStatus) -> str:
    """The state and since when, so that finishing again after a resume is news again."""
    since = status.info.state_since.isoformat() if status.info else ""
    return f"{status.health.value} {since}"
