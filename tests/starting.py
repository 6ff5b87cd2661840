"""`python -m backend` for tests, quick to start: processes forked from one that has loaded torch, and otherwise like any others.

They have a number, signals, a terminal and an exit status of their own; only the ten seconds that imports take are shared. That
commands start from nothing is tested where those of the README run.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["backend.training", __name__])


ROOT = Path(__file__).parents[1]


def with_code(before: str, script: Path) -> Path:
    """A script that runs `python -m backend` after some code of the test's own, in every process that it starts, too."""
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport backend.__main__ as main\n{before}\nsys.exit(main.main())"
    )
    return script


class Started:
    """A process that runs `python -m backend` with some words, or a script of the test's own with them.

    Args:
        words: after the program's name.
        out: a file that gets what it says, stdout and stderr; or the descriptor of a terminal.
        script: run in place of `backend`; may run it in turn.
        new_session: lead a session, so that whoever it leaves behind can be found.
    """

    def __init__(self, words: Sequence[str], out: Path | int, *, script: Path | None = None, new_session: bool = False) -> None:
        self.out = out
        to = DupFd(out) if isinstance(out, int) else out
        self._process = FORKING.Process(target=_run, args=(list(words), to, script, new_session))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 120) -> int:
        """Exit status. Raises AssertionError, with what it said, where it does not end."""
        self._process.join(seconds)
        status = self.poll()
        assert status is not None, f"process {self.pid} still runs after {seconds} s:\n{self.said()[-3000:]}"
        return status

    def said(self) -> str:
        """Everything so far, where it goes to a file."""
        return self.out.read_text(errors="replace") if isinstance(self.out, Path) else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def _run(words: list[str], to: Any, script: Path | None, new_session: bool) -> None:
    """In the new process."""
    import torch

    if new_session:
        os.setsid()
    opened = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if isinstance(to, Path) else to.detach()
    for descriptor in (1, 2) if isinstance(to, Path) else (0, 1, 2):
        os.dup2(opened, descriptor)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.environ.update(OMP_NUM_THREADS="1", COLUMNS="100", TERM="xterm")
    torch.set_num_threads(1)
    sys.argv = [str(script or "backend"), *words]
    if script is None:
        runpy.run_module("backend", run_name="__main__", alter_sys=False)
    else:
        runpy.run_path(str(script), run_name="__main__")
