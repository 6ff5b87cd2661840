"""`python -m backend` for tests, quick to start: processes forked from one that has loaded torch, once for all of them.

They have a number, signals, a terminal and an exit status of their own. Unlike processes that start from nothing they have the
environment of the first of them, and run nothing at exit. Start pytest in the root of the checkout: elsewhere nothing is loaded
beforehand.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["backend.training", __name__])


@atexit.register
def end_all() -> None:
    """No training outlives the tests: multiprocessing would wait for it."""
    for child in multiprocessing.active_children():
        child.kill()


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
        out: a file that gets what it says, stdout and stderr, and is emptied first; or a terminal, which it reads, too.
        script: run in place of `backend`, which it may run in turn; trainings of several processes need one.
        new_session: lead a session, so that whoever it leaves behind can be found.
        folder: where it works, in place of the first one's folder.
    """

    def __init__(
        self,
        words: Sequence[str],
        out: Path,
        *,
        script: Path | None = None,
        new_session: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.out = out
        if not out.is_char_device():
            out.write_bytes(b"")
        self._process = FORKING.Process(target=_run, args=(list(words), out, script, new_session, folder))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 120) -> int:
        """Exit status. Where it does not end it is ended, and AssertionError says what it said."""
        self._process.join(seconds)
        status = self.poll()
        if status is None:
            self._process.kill()
            raise AssertionError(f"process {self.pid} still ran after {seconds} s:\n{self.said()[-3000:]}")
        return status

    def said(self) -> str:
        """Everything so far, where it goes to a file."""
        return self.out.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        os.kill(self.pid, number)


def _run(words: list[str], out: Path, script: Path | None, new_session: bool, folder: Path | None) -> None:
    """In the new process."""
    if new_session:
        os.setsid()
    opened = os.open(out, os.O_RDWR | os.O_APPEND | os.O_NOCTTY)
    for descriptor in (0, 1, 2) if os.isatty(opened) else (1, 2):
        os.dup2(opened, descriptor)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    os.environ.update(OMP_NUM_THREADS="1", COLUMNS="100", TERM="xterm")
    if folder is not None:
        os.chdir(folder)
    sys.argv = [str(script or "backend"), *words]
    if script is None:
        runpy.run_module("backend", run_name="__main__")
    else:
        runpy.run_path(str(script), run_name="__main__")
