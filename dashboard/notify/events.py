"""New lines in the events of a run, from where the last look ended, also across restarts of the dashboard."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from dashboard.notify.memory import Known


def new_events(path: Path, known: Known, after: datetime | None) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Time and row of every event written since the last look; moves `known` on.

    Args:
        path: events.jsonl; a missing one has no events.
        known: how far it was read.
        after: older events are past.
    """
    try:
        with path.open("rb") as file:
            status = path.stat()
            if status.st_ino != known.inode or status.st_size < known.offset:  # a resume cut the file and wrote it anew
                known.inode, known.offset = status.st_ino, 0
            if status.st_size == known.offset:
                return
            file.seek(known.offset)
            data = file.read()
    except OSError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    known.offset += len(whole)
    before = max((time for time in (known.at, after) if time is not None), default=None)
    for line in whole.splitlines():
        event = _event(line)
        if event is None or (before is not None and event[0] <= before):
            continue
        known.at = event[0] if known.at is None else max(known.at, event[0])
        yield event


def skip_events(path: Path, known: Known, at: datetime) -> None:
    """All that is there now is past."""
    try:
        status = path.stat()
    except OSError:
        return
    known.inode, known.offset, known.at = status.st_ino, status.st_size, at


def _event(line: bytes) -> tuple[datetime, dict[str, Any]] | None:
    """Time and row; None for a line that is no event, which the pages name."""
    try:
        row = orjson.loads(line)
        at = datetime.fromisoformat(row["at"])
        return (at, row) if isinstance(row["step"], int) and at.tzinfo is not None else None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
