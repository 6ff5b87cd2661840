"""Small analyses that pages start by themselves: UMAP of a run, by the backend's public command, one at a time.

Only this one command, with fixed arguments, on a run that the page shows; it reads the run and writes into its analysis folder.
Asked for by several people it runs once, and it ends with the dashboard.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import orjson

from dashboard.runs.loading import resolve_run
from shared.latents import Of

ROOT = Path(__file__).resolve().parents[1]
NICE = 10
LAST_LINES = 12
KEPT_ENDED = 100
STOP_S = 3.0

log = logging.getLogger("dashboard")


@dataclass(frozen=True)
class Task:
    """UMAP of the snapshots of a run, or of one checkpoint."""

    run: str
    of: Of
    checkpoint: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far a task is: waiting, running or failed."""

    state: Literal["waiting", "running", "failed"]
    phase: str = ""
    share: float = 0.0
    seconds: float = 0.0
    output: str = ""
    """Last lines of what a failed one printed"""


def unavailable() -> str | None:
    """Why UMAP cannot be worked out where the dashboard runs; None if it can. Nothing is imported."""
    if not (ROOT / "backend" / "umap_run.py").exists() and importlib.util.find_spec("backend") is None:
        return "The trainer's package (backend) is not installed beside this dashboard"
    if importlib.util.find_spec("umap") is None:
        return "umap-learn is not installed where this dashboard runs"
    return None


class Work:
    """Runs tasks one after the other on a thread of its own. May be called from any thread."""

    def __init__(self, runs: Path, changed: Callable[[str], None]) -> None:
        self._runs = runs
        self._changed = changed
        """Told the name of a run whose task began or ended."""
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Task, int | None, str]] = deque()
        self._running: tuple[Task, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: dict[Task, tuple[str, str | None]] = {}
        """Of each task: the input it was started for, and what it printed if it failed"""
        self._thread: threading.Thread | None = None
        self._stopped = False

    def ask(self, task: Task, step: int | None, input: str, *, again: bool = False) -> None:
        """Have a task done, `step` first, unless it waits, runs, or was done for the same `input` (a token of the snapshots)."""
        with self._lock:
            known = self._ended.get(task)
            busy = any(task == other for other, *_ in self._waiting) or (self._running and self._running[0] == task)
            if self._stopped or busy or (known is not None and known[0] == input and not again):
                return
            self._ended.pop(task, None)
            self._waiting.append((task, step, input))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="analysis", daemon=True)
                self._thread.start()

    def progress(self, task: Task) -> Progress | None:
        """How far it is; None when it is done or was never asked for."""
        with self._lock:
            if self._running is not None and self._running[0] == task:
                state: Literal["waiting", "running"] = "running"
            elif any(task == other for other, *_ in self._waiting):
                state = "waiting"
            else:
                known = self._ended.get(task)
                return Progress("failed", output=known[1]) if known is not None and known[1] is not None else None
        layout = resolve_run(self._runs, task.run)
        if state == "waiting" or layout is None:
            return Progress("waiting")
        return _read(layout.progress(layout.umap(task.of, task.checkpoint)))

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            process = self._process
        if process is not None:
            _end(process)
        if self._thread is not None:
            self._thread.join(timeout=2 * STOP_S)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                task, step, input = self._waiting.popleft()
                self._running = task, input
            self._changed(task.run)
            failure = self._one(task, step)
            with self._lock:
                self._running = None
                self._ended[task] = input, failure
                while len(self._ended) > KEPT_ENDED:
                    self._ended.pop(next(iter(self._ended)))
            self._changed(task.run)

    def _one(self, task: Task, step: int | None) -> str | None:
        """Run one task to its end; returns the last lines of its output if it failed."""
        layout = resolve_run(self._runs, task.run)
        if layout is None:
            return f"{task.run}: the run is no longer there"
        words = [sys.executable, "-m", "backend", "umap", str(layout.root), f"--of={task.of}"]
        if task.checkpoint is not None:
            words.append(f"--checkpoint={task.checkpoint}")
        elif step is not None:
            words.append(f"--step={step}")
        with tempfile.TemporaryFile() as output:
            try:
                code = self._wait(words, output)
            except OSError as error:
                return f"{sys.executable}: {error.strerror}"
            if code == 0 or self._stopped:
                return None
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()
        log.warning("UMAP of %s ended with %s", task.run, code)
        return "\n".join(lines[-LAST_LINES:]) or f"it ended with exit status {code} and printed nothing"

    def _wait(self, words: list[str], output: IO[bytes]) -> int:
        with self._lock:
            if self._stopped:
                return 0
            self._process = process = subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        code = process.wait()
        with self._lock:
            self._process = None
        return code


def _read(path: Path) -> Progress:
    """The progress file of a running task; it may not be there yet, and a foreign one is not trusted."""
    try:
        found = orjson.loads(path.read_bytes())
        share = min(max(float(found["share"]), 0.0), 1.0)
        return Progress("running", str(found["phase"]), share, float(found["seconds"]))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Progress("running", "starting")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
