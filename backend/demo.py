"""`python -m backend demo` (or `make demo`): simulated stays, a training run, and the dashboard in the browser.

Everything it makes lies in --folder; Ctrl-C stops training (it saves first) and the dashboard.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from shared.dataset import DATASET_JSON
from shared.errors import InputError

TRAINING = {
    "width": 64, "latent_dim": 32, "batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 1e-3,
    "lr_warmup_steps": 50, "beta_warmup_steps": 400, "val_check_interval": 0.5, "fast_detection": True,
    "probe_patients": 64, "probe_time_budget": 0.1, "update_frequency": 50, "max_epochs": 30, "run_name": "demo",
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
    """Prepare once, then train and serve until Ctrl-C.

    Raises:
        InputError: the dashboard does not come up, or a child fails at once.
    """
    data, runs = args.folder / "data", args.folder / "runs"
    if not (data / DATASET_JSON).exists():
        _backend("prepare", "simulate", str(data), "--patients", str(args.patients)).check_returncode()
    runs.mkdir(parents=True, exist_ok=True)
    options = [f"--{name}={value}" for name, value in TRAINING.items() if value is not True]
    options += [f"--{name}" for name, value in TRAINING.items() if value is True]
    address = f"http://localhost:{args.port}"
    with (
        child("dashboard", "--runs", str(runs), "--port", str(args.port)) as dashboard,
        child("backend", "train", "--data_dir", str(data), "--output_dir", str(runs), *options) as training,
    ):
        _wait_until_served(address, dashboard)
        print(f"\n  dashboard: {address}\n  simulated data, no real patients. Ctrl-C stops everything.\n", flush=True)
        if args.browser:
            webbrowser.open(address)
        return _watch(dashboard, training)


def _backend(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "backend", *words], check=False)


@contextlib.contextmanager
def child(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m WORDS` in a session of its own, so that Ctrl-C reaches it from here alone; told to stop at the end."""
    process = subprocess.Popen([sys.executable, "-m", *words], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_until_served(address: str, dashboard: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if dashboard.poll() is not None:
            raise InputError("the dashboard did not start (see above); if its port is taken choose another with --port")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InputError(f"the dashboard did not answer at {address} within {READY_WITHIN_S:.0f} s")


def _watch(dashboard: subprocess.Popen[bytes], training: subprocess.Popen[bytes]) -> int:
    """Wait for Ctrl-C, SIGTERM or the end of the dashboard; training may end before, its run stays to look at."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = training.wait()
        print(f"training ended ({'finished' if status == 0 else f'status {status}'}); Ctrl-C closes the dashboard", flush=True)
        return dashboard.wait()
    except KeyboardInterrupt:
        print("\nstopping ...", flush=True)
        return 0
