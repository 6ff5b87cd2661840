"""Whose a run is: written by the one process that trains it, or, on several devices, the first of them; never by two."""

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health, read_status
from shared.schema import RunInfo, now

HELPER_OF = "SEQSETVAE_RUN"
"""Set by the first process of a run on several devices: the helpers it starts write into no folder of their own."""
ALIVE_WITHIN = timedelta(seconds=30)
CLOCK_SLACK_S = 60.0


def refuse_imported(layout: RunLayout, info: RunInfo) -> None:
    """Refuse a run that another program trained. Raises InputError."""
    if info.imported is not None:
        raise InputError(
            f"{layout.root}: was imported from the TensorBoard log {info.imported.path}; it has no checkpoint of this program to go "
            "on with. Resume it with the program that trained it, and import again"
        )


def refuse_running(layout: RunLayout) -> None:
    """Refuse to be a second writer. On one machine the process decides, however old its heartbeat; from afar that has to.

    Raises:
        InputError: names the process.
    """
    if HELPER_OF in os.environ:
        return
    status = read_status(layout)
    beat, session = status.heartbeat, status.info.sessions[-1] if status.info and status.info.sessions else None
    if status.health not in (Health.RUNNING, Health.CREATED, Health.STALE):
        return
    if session is not None and session.host == socket.gethostname():
        pid, host = session.pid, "this machine"
        busy = pid != os.getpid() and not started_after(pid, session.started_at)
    elif beat is not None:
        pid, host, busy = beat.pid, beat.host, now() - beat.at <= ALIVE_WITHIN
    else:
        return
    if busy:
        raise InputError(f"{layout.root}: process {pid} on {host} is still training this run; stop it first")


def started_after(pid: int, moment: datetime) -> bool:
    """Whether a living process is too young to have been there at `moment`: its number was given out again."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, IndexError, StopIteration):
        return False
    return booted + ticks / os.sysconf("SC_CLK_TCK") > moment.timestamp() + CLOCK_SLACK_S
