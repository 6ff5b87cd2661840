"""Starting, finding again, stopping and killing the processes of jobs. None of them ends with the dashboard."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from dashboard.jobs.record import Process
from dashboard.jobs.runner import birth

HELPER_OF = "SEQSETVAE_RUN"
"""A dashboard that was itself started by a training must not make its jobs that training's helpers."""


def environment(lanes: list[str]) -> dict[str, str]:
    """Variables of a job that holds these lanes: it sees the GPUs it was given and no other."""
    cards = [lane.removeprefix("gpu ") for lane in lanes if lane.startswith("gpu ")]
    kept = {name: value for name, value in os.environ.items() if name != HELPER_OF}
    return kept | {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of nvidia-smi, whose numbers people choose by
        "CUDA_VISIBLE_DEVICES": ",".join(cards),
        "PYTHONUNBUFFERED": "1",
    }


def launch(record: Path, words: list[str], cwd: Path, lanes: list[str]) -> tuple[subprocess.Popen[bytes], Process]:
    """Start the runner of a job in a session of its own; the job works in `cwd` and prints into the log beside its record.

    Raises:
        OSError: it cannot be started, or the log cannot be written.
    """
    command = [sys.executable, "-m", "dashboard.jobs.runner", str(record), str(cwd), *words]
    with record.with_suffix(".log").open("ab") as printed:
        runner = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, env=environment(lanes),
            start_new_session=True,
        )  # fmt: skip
    return runner, Process(pid=runner.pid, birth=birth(runner.pid))


def alive(process: Process | None) -> bool:
    """Whether that very process is there; another one that was given its number is not taken for it."""
    return process is not None and process.birth is not None and birth(process.pid) == process.birth


def interrupt(process: Process) -> bool:
    """Ask to stop, as Ctrl-C does: the process itself, not its helpers, which it ends when it has saved. False if it is gone."""
    return _send(process, signal.SIGINT, group=False)


def kill(process: Process) -> bool:
    """End at once, with all helpers."""
    return _send(process, signal.SIGKILL, group=True)


def _send(process: Process, number: signal.Signals, *, group: bool) -> bool:
    if not alive(process):
        return False
    try:
        if group:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
