"""What has been told already, kept in RUNS/.dashboard/notices, so that a restart of the dashboard neither repeats nor loses news."""

import contextlib
import logging
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, Field

from dashboard.notify.notice import Notice
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health, read_record
from shared.schema import Record, now
from shared.writer import write_record

FILE = Path(".dashboard") / "notices" / "memory.json"
RECENT = 50
OVER = frozenset({Health.FINISHED, Health.FAILED, Health.INTERRUPTED, Health.DEAD})

log = logging.getLogger("dashboard")


class Known(BaseModel):
    """How far a run was followed."""

    state: str = ""
    """The state that was last seen, with the time since when."""
    stamp: int = 0
    """Of run.json, when the state was read."""
    inode: int = 0
    offset: int = 0
    """Bytes of its events that were read; of another file than `inode` none."""
    at: AwareDatetime | None = None
    """Time of the newest event read: lines up to it are old, also when a resume has rewritten the file."""
    open: list[str] = Field(default_factory=list)
    """Verdicts that were told and are not over."""


class Memory(Record):
    """Everything that must outlive the dashboard."""

    looked_at: AwareDatetime = Field(default_factory=now)
    """Runs that appear later but were over before are past, not news: somebody copied them here."""
    last: int = 0
    runs: dict[str, Known] = Field(default_factory=dict)
    recent: list[Notice] = Field(default_factory=list)
    """The newest, oldest first."""
    waiting: dict[str, list[Notice]] = Field(default_factory=dict)
    """By outlet: not delivered yet."""

    def number(self, at: datetime) -> int:
        """The next number: rises by time, so that it also rises when this file is lost."""
        self.last = max(self.last + 1, int(at.timestamp() * 1000))
        return self.last

    def settled(self, layout: RunLayout) -> bool:
        """Whether a run that was over is as it was left: it need not be read."""
        known = self.runs.get(layout.root.name)
        return known is not None and known.state.split(" ")[0] in OVER and self.unchanged(layout)

    def unchanged(self, layout: RunLayout) -> bool:
        """Whether the files that make news are as they were when they were read; most steps of training touch others."""
        known = self.runs.get(layout.root.name)
        if known is None or known.stamp != stamp(layout):
            return False
        try:
            status = layout.events.stat()
        except OSError:
            return known.inode == 0
        return (status.st_ino, status.st_size) == (known.inode, known.offset)

    def keep(self, notice: Notice, outlets: list[str]) -> None:
        """Remember it, and that these outlets have to send it."""
        self.recent = [*self.recent, notice][-RECENT:]
        for outlet in outlets:
            self.waiting.setdefault(outlet, []).append(notice)


def stamp(layout: RunLayout) -> int:
    """Changes with run.json."""
    try:
        return layout.run_json.stat().st_mtime_ns
    except OSError:
        return 0


def changed_at(layout: RunLayout) -> float:
    """When the files that make news were last written, in seconds since 1970."""
    times = [0.0]
    for path in (layout.run_json, layout.events):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def load(runs: Path) -> Memory | None:
    """The memory of an earlier dashboard; None when there is none, or none that can be read (then all there is counts as past)."""
    path = runs / FILE
    if not path.exists():
        return None
    try:
        return read_record(path, Memory)
    except InputError as error:
        log.warning("%s: what happened while the dashboard was away is not told", error)
        return None


def save(runs: Path, memory: Memory) -> str | None:
    """Write it; returns what went wrong, for people."""
    path = runs / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, memory)
    except OSError as error:
        return f"cannot write {FILE}: {error.strerror}; after a restart, news may be told twice or not at all"
    return None
