"""The demo as a process: however it is stopped, and however early, no trainer and no dashboard is left behind."""

import io
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.console import Tee
from backend.demo import children
from backend.stopping import StopSignals
from tests.test_boundaries import ROOT

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def processes_of(folder: Path) -> list[str]:
    """Command lines, other than the demo's own, that name `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(str(folder) in word for word in words) and "demo" not in words:
            found.append(" ".join(words))
    return found


def until(condition, child: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit and child.poll() is None
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def demo(folder: Path, terminal: int) -> subprocess.Popen[bytes]:
    words = ["demo", "--folder", str(folder), "--patients", "60", "--port", str(free_port()), "--no-browser"]
    return subprocess.Popen([sys.executable, "-m", "backend", *words], cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal,
                            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)  # fmt: skip


def test_what_is_said_of_a_ctrl_c_is_what_the_user_did(capsys):
    with children() as started:
        signal.raise_signal(signal.SIGINT)
        started.pause(1.0)
    assert "Ctrl-C: stopping everything" in capsys.readouterr().out
    StopSignals()._receive(signal.SIGTERM, None)
    assert "SIGTERM" not in capsys.readouterr().out, "the demo hands a Ctrl-C on"


@pytest.mark.slow
@pytest.mark.parametrize("word", ["prepare", "dashboard", "train"])
def test_an_early_sigterm_leaves_no_process(tmp_path, word):
    with (tmp_path / "out.txt").open("wb") as out:
        child = demo(tmp_path / "demo", out.fileno())
        until(lambda: any(f" {word}" in line for line in processes_of(tmp_path / "demo")), child)
        child.terminate()
        assert child.wait(60) == 0
    assert processes_of(tmp_path / "demo") == []
    assert "Traceback" not in (tmp_path / "out.txt").read_text()


@pytest.mark.slow
def test_a_closed_terminal_leaves_no_process_and_a_saved_run(tmp_path):
    parent, terminal = pty.openpty()
    child = demo(tmp_path / "demo", terminal)
    os.close(terminal)
    until(lambda: list((tmp_path / "demo" / "runs").glob("*/metrics.jsonl")), child)
    os.close(parent)
    child.send_signal(signal.SIGHUP)
    child.wait(60)
    assert processes_of(tmp_path / "demo") == []
    assert list((tmp_path / "demo" / "runs").glob("*/checkpoints/interrupted_*.ckpt"))


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")

    def flush(self):
        self.write("")


def test_a_stream_whose_terminal_is_gone_still_reaches_the_file():
    log = io.StringIO()
    print("still here", file=Tee(Gone(), log), flush=True)
    assert log.getvalue() == "still here\n"
