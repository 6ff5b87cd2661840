"""`python -m dashboard.jobs.runner JOBS/ID.json FOLDER WORDS`: runs a job to its end and notes how it ended, dashboard or not.

It writes ID.process once the job's process is there and ID.exit once that has ended; ID.json belongs to the queue. Only the
standard library is loaded, so that it starts at once and costs little in the days that a training takes.
"""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
"""As in shared.layout, whose package is not loaded here; a test keeps them equal."""
COULD_NOT_START = 127
PROC = Path("/proc")


def birth(pid: int) -> str | None:
    """When a living process began, exactly enough that no later one of the same number is taken for it; None for a dead one."""
    if not PROC.is_dir():
        return _birth_elsewhere(pid)
    try:
        state, *rest = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else f"{boot} {rest[18]}"


def _birth_elsewhere(pid: int) -> str | None:
    """Where there is no /proc, `ps` knows, to the second."""
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = answer.stdout.strip().partition(" ")
    return began.strip() if began and not state.startswith("Z") else None


def note(path: Path, values: dict[str, Any]) -> None:
    """Write a small record so that it appears whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    record = {"schema_version": SCHEMA_VERSION, "at": datetime.now(UTC).isoformat(), **values}
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(path)


def main(argv: list[str]) -> int:
    """Run `python -m backend WORDS` in FOLDER; returns its exit status (negative: the signal that ended it).

    What to run is told and not read from the record, which others may be able to write.
    """
    path, folder, *words = Path(argv[0]), *argv[1:]
    # Handlers, and not SIG_IGN, which the job would inherit: a machine that shuts down lets it save, and its end is noted.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    command = [sys.executable, "-m", "backend", *words]
    try:
        child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, process_group=0)
    except (OSError, ValueError) as error:
        note(path.with_suffix(".exit"), {"status": COULD_NOT_START, "error": str(error)})
        return COULD_NOT_START
    note(path.with_suffix(".process"), {"pid": child.pid, "birth": birth(child.pid)})
    status = child.wait()
    note(path.with_suffix(".exit"), {"status": status})
    return status


if __name__ == "__main__":
    sys.exit(min(abs(main(sys.argv[1:])), 255))
