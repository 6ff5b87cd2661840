"""What the writer promises: whole lines only, whatever the disk does and whenever the process dies."""

import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from shared import writer as writer_module
from shared.reader import JsonlTail
from shared.schema import Event
from shared.writer import JsonlWriter, encode_line

ROOT = Path(__file__).resolve().parents[1]
ENDLESS_WRITER = """
import sys
from pathlib import Path
from shared.writer import JsonlWriter
writer = JsonlWriter(Path(sys.argv[1]))
print("ready", flush=True)
step = int(sys.argv[2])
while True:
    writer.write(step, {"loss": step / 7, "text": "x" * (step % 6000)})
    step += 1
"""


def steps(path: Path) -> list[int]:
    """Steps in the file; fails on anything that is not a whole line of JSON."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line)["step"] for line in data.splitlines()]


class Disk:
    """Stands for `os.write` on a disk with `room` bytes left: what fits is written, then ENOSPC, as Linux does it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(writer_module.os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        part = data[: self.room]
        if not part:
            raise OSError(28, "No space left on device")
        self.room -= len(part)
        return self._write(fd, part)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The writer's clock; tests move it instead of sleeping."""
    at = [0.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: at[0])
    return at


def test_each_write_is_a_whole_line_at_once(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    for step in range(3):
        writer.write(step, {"loss": 0.5})
        assert steps(writer.path) == list(range(step + 1))  # nothing waits in a buffer
    writer.close()


def test_line_starts_with_version_and_step() -> None:
    assert encode_line(7, {"loss": 0.5}) == b'{"v":1,"step":7,"loss":0.5}\n'


def test_no_logged_name_takes_the_place_of_version_and_step() -> None:
    assert encode_line(7, {"step": 0.25, "v": "x"}) == b'{"v":1,"step":7,"logged_step":0.25,"logged_v":"x"}\n'


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_nonfinite_becomes_null_and_is_named(bad: float) -> None:
    assert json.loads(encode_line(1, {"kl": bad, "loss": 1.0})) == {
        "v": 1, "step": 1, "kl": None, "loss": 1.0, "nonfinite": ["kl"],
    }  # fmt: skip


def test_full_disk_warns_once_keeps_lines_and_recovers_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    warnings: list[str] = []
    writer = JsonlWriter(tmp_path / "metrics.jsonl", warn=warnings.append)
    writer.write(0, {"loss": 1.0})
    disk = Disk(monkeypatch, room=10)  # less than a line: the next write is torn
    for step in range(1, 50):
        writer.write(step, {"loss": 1.0})
        clock[0] += 1.0
        assert steps(writer.path) == [0]
    assert len(warnings) == 1 and "No space left" in warnings[0] and "metrics.jsonl" in warnings[0]

    disk.room = 10**9
    clock[0] += writer_module.RETRY_AFTER_S
    writer.write(50, {"loss": 1.0})
    assert steps(writer.path) == list(range(51))
    assert len(warnings) == 2 and "can be written again; no line was lost" in warnings[1]
    writer.close()
    assert len(warnings) == 2


def test_disk_that_fills_while_waiting_lines_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    warnings: list[str] = []
    writer = JsonlWriter(tmp_path / "metrics.jsonl", warn=warnings.append)
    disk = Disk(monkeypatch, room=0)
    for step in range(10):
        writer.write(step, {"loss": 1.0})
    disk.room = 100  # room for three of the ten, and a part of the fourth
    clock[0] += 10
    writer.write(10, {"loss": 1.0})
    assert steps(writer.path) == [0, 1, 2]
    disk.room = 10**9
    writer.close()
    assert steps(writer.path) == list(range(11))
    assert len(warnings) == 2


def test_close_reports_lost_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    writer = JsonlWriter(tmp_path / "metrics.jsonl", warn=warnings.append)
    Disk(monkeypatch, room=0)
    for step in range(7):
        writer.write(step, {})
    writer.close()
    assert "7 lines could not be written and are lost" in warnings[-1]


def test_oldest_waiting_lines_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    monkeypatch.setattr(writer_module, "MAX_PENDING", 5)
    warnings: list[str] = []
    writer = JsonlWriter(tmp_path / "metrics.jsonl", warn=warnings.append)
    disk = Disk(monkeypatch, room=0)
    for step in range(8):
        writer.write(step, {})
    disk.room = 10**9
    writer.close()
    assert steps(writer.path) == [3, 4, 5, 6, 7]
    assert any("3 lines were lost" in warning for warning in warnings)


def test_device_without_space_does_not_stop_training() -> None:
    """The kernel's own ENOSPC."""
    warnings: list[str] = []
    writer = JsonlWriter(Path("/dev/full"), warn=warnings.append)
    for step in range(3):
        writer.write(step, {"loss": 1.0})
    writer.close()
    assert len(warnings) == 2 and "3 lines" in warnings[1]


def test_partial_write_by_the_kernel_leaves_no_torn_line(tmp_path: Path) -> None:
    """A real short write: the file may grow to 1,000 bytes and no further (RLIMIT_FSIZE)."""
    path, warnings = tmp_path / "metrics.jsonl", []
    writer = JsonlWriter(path, warn=warnings.append)
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for step in range(100):
            writer.write(step, {"loss": 1 / (step + 1)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert 10 < len(steps(path)) < 50 and path.stat().st_size <= 1000
    writer.close()
    assert steps(path) == list(range(100))
    assert "File too large" in warnings[0] or "No space" in warnings[0]


def test_missing_folder_then_restored(tmp_path: Path, clock: list[float]) -> None:
    warnings: list[str] = []
    writer = JsonlWriter(tmp_path / "run" / "metrics.jsonl", warn=warnings.append)
    writer.write(0, {})
    assert len(warnings) == 1 and "No such file" in warnings[0]
    (tmp_path / "run").mkdir()
    clock[0] += 10
    writer.write(1, {})
    writer.close()
    assert steps(writer.path) == [0, 1]


def test_folder_removed_while_writing_is_noticed(tmp_path: Path, clock: list[float]) -> None:
    """An open descriptor goes on writing to a file that nobody can read any more; that must not pass in silence."""
    warnings: list[str] = []
    (tmp_path / "run").mkdir()
    writer = JsonlWriter(tmp_path / "run" / "metrics.jsonl", warn=warnings.append)
    writer.write(0, {})
    shutil.rmtree(tmp_path / "run")
    writer.write(1, {})
    writer.write(2, {})
    assert len(warnings) == 1 and "removed" in warnings[0]
    (tmp_path / "run").mkdir()
    clock[0] += 10
    writer.write(3, {})
    writer.close()
    assert steps(writer.path) == [1, 2, 3]


@pytest.mark.parametrize("torn", [b'{"v":1,"st', b"x" * 200_000])
def test_torn_end_of_an_earlier_process_is_cut_before_appending(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(encode_line(1, {}) + torn)
    writer = JsonlWriter(path)
    writer.write(2, {})
    writer.close()
    assert steps(path) == [1, 2]


def test_record_lines(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "events.jsonl")
    writer.write_record(Event(step=3, kind="warning", message="two\nlines"))
    writer.close()
    (row,) = JsonlTail(writer.path).read()
    assert row["step"] == 3 and row["message"] == "two\nlines"


@pytest.mark.slow
def test_kill_at_any_moment_tears_nothing_and_loses_no_whole_line(tmp_path: Path) -> None:
    """Ten real `kill -9`, each followed by another process that goes on in the same file, under a constant reader."""
    path, chance = tmp_path / "metrics.jsonl", random.Random(0)
    tail, seen = JsonlTail(path), []
    for _ in range(10):
        begin = seen[-1] + 1 if seen else 0
        command = [sys.executable, "-c", ENDLESS_WRITER, str(path), str(begin)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + chance.uniform(0.01, 0.2)
        while time.monotonic() < deadline or not seen or seen[-1] < begin:
            seen += [row["step"] for row in tail.read()]
        process.kill()
        process.wait()
        process.stdout.close()
        seen += [row["step"] for row in tail.read()]
    assert seen == list(range(len(seen))), "a line was lost, doubled or out of order"
    assert tail.problems == []


def test_default_warning_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    writer = JsonlWriter(Path("/dev/full"))
    writer.write(0, {})
    writer.close()
    assert "WARNING: cannot write /dev/full" in capsys.readouterr().err


def test_values_that_are_not_json_are_an_error_at_once(tmp_path: Path) -> None:
    """A mistake in the program is not a full disk: it must be seen, not swallowed."""
    with pytest.raises((TypeError, orjson.JSONEncodeError)):
        JsonlWriter(tmp_path / "metrics.jsonl").write(0, {"loss": object()})
