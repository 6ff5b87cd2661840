"""`python -m backend demo` (or `make demo`): simulated stays, a training run, and the dashboard in the browser.

Everything it makes lies in --folder; Ctrl-C stops training (it saves first) and the dashboard.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from backend.stopping import asked_by
from shared.dataset import DATASET_JSON
from shared.errors import InputError

TRAINING = {
    "width": 64, "latent_dim": 32, "batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 5e-4, "dropout": 0.3, "weight_decay": 0.1,
    "lr_warmup_steps": 50, "beta_warmup_steps": 400, "val_check_interval": 0.5, "fast_detection": True,
    "probe_patients": 64, "probe_time_budget": 0.1, "update_frequency": 50, "max_epochs": 12, "run_name": "demo",
}  # fmt: skip
"""A model small enough for two cores: first curves in seconds, the whole run in some minutes."""

READY_WITHIN_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where data and runs go [demo]")
    parser.add_argument("--patients", type=int, default=1000, help="simulated stays [1000]")
    parser.add_argument("--port", type=int, default=8501, help="port of the dashboard [8501]")
    parser.add_argument(
        "--browser", action=argparse.BooleanOptionalAction, default=True, help="open the browser, or only print the address"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare once, then train and serve until Ctrl-C, SIGTERM or the end of the terminal.

    Raises:
        InputError: the dashboard does not come up, or a child fails at once.
    """
    if importlib.util.find_spec("dashboard") is None:
        raise InputError("the demo is of a checkout, which has the dashboard too: run `make demo` there")
    data, runs = args.folder / "data", args.folder / "runs"
    options = [f"--{name}={value}" for name, value in TRAINING.items() if value is not True]
    options += [f"--{name}" for name, value in TRAINING.items() if value is True]
    address = f"http://localhost:{args.port}"
    with children() as started:
        if not (data / DATASET_JSON).exists():
            status = started.wait(started.start("backend", "prepare", "simulate", str(data), "--patients", str(args.patients)))
            if status:
                raise InputError(f"the simulated stays could not be prepared (status {status}, see above)")
        runs.mkdir(parents=True, exist_ok=True)
        dashboard = started.start("dashboard", "--runs", str(runs), "--port", str(args.port))
        training = started.start("backend", "train", "--data_dir", str(data), "--output_dir", str(runs), *options)
        _wait_until_served(address, dashboard, started)
        print(f"\n  dashboard: {address}\n  simulated data, no real patients. Ctrl-C stops everything.\n", flush=True)
        if args.browser:
            webbrowser.open(address)
        status = started.wait(training)
        print(f"training ended ({'finished' if status == 0 else f'status {status}'}); Ctrl-C closes the dashboard", flush=True)
        return started.wait(dashboard)
    return 0


class Stopped(BaseException):
    """A signal asked for the end; no error, so nothing that handles errors may catch it."""


class Children:
    """Processes that end with this one. A signal is only noted, and acted on while waiting: none can slip between the start
    of a child and its being known.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.signal: int | None = None
        """The one that asked."""
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """`python -m WORDS` in a session of its own, so that the terminal's signals reach it from here alone."""
        self.pause(0.0)
        process = subprocess.Popen([sys.executable, "-m", *words], start_new_session=True, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def pause(self, seconds: float) -> None:
        """Wait a moment. Raises Stopped when a signal has come."""
        if self.asked.wait(seconds):
            raise Stopped

    def ask(self, number: int) -> None:
        """A signal came: remember the first."""
        self.signal = number if self.signal is None else self.signal
        self.asked.set()

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Exit status of a child. Raises Stopped when a signal comes first."""
        while process.poll() is None:
            self.pause(0.1)
        return process.returncode

    def end(self) -> None:
        """Ask all of them to stop, so that training can save; kill what has not after 30 s."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def children() -> Iterator[Children]:
    """Children that end with the block, however it ends: also by Ctrl-C, SIGTERM or SIGHUP, which end it without an error."""
    started = Children()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: started.ask(number)) for number in numbers}
    try:
        yield started
    except Stopped:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\n{asked_by(started.signal)}: stopping everything; a training saves first ...", flush=True)
    finally:
        started.end()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_served(address: str, dashboard: subprocess.Popen[bytes], started: Children) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if dashboard.poll() is not None:
            raise InputError("the dashboard did not start (see above); if its port is taken choose another with --port")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            started.pause(0.2)
    raise InputError(f"the dashboard did not answer at {address} within {READY_WITHIN_S:.0f} s")
