"""From a file event to the event stream: coalesced, cleaned up, and with a way out when watches run out."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from watchdog import events as fs
from watchdog.observers.polling import PollingObserver

from dashboard import outlive
from dashboard.auth.hosts import is_local
from dashboard.runs import watch
from dashboard.runs.watch import LIST, Revisions, Watcher, touched
from dashboard.service import Service
from shared.reader import read_record
from shared.schema import RunInfo, RunState
from shared.writer import JsonlWriter, write_record
from tests.browser.driving import ROOT, dashboard
from tests.run_factory import GONE_PID, make_run

RUNS = Path("/runs")


@pytest.mark.parametrize(
    ("event", "keys"),
    [
        (fs.FileModifiedEvent("/runs/a/metrics.jsonl"), {"a"}),
        (fs.FileMovedEvent("/runs/a/.heartbeat.json.12.tmp", "/runs/a/heartbeat.json"), {"a", LIST}),
        (fs.FileModifiedEvent("/runs/a/.heartbeat.json.12.tmp"), set()),
        (fs.FileCreatedEvent("/runs/a/posterior/step-000000100.parquet"), {"a"}),
        (fs.DirCreatedEvent("/runs/a"), {"a", LIST}),
        (fs.DirMovedEvent("/runs/a", "/runs/b"), {"a", "b", LIST}),
        (fs.FileModifiedEvent("/elsewhere/a"), set()),
    ],
)
def test_keys_of_an_event(event: fs.FileSystemEvent, keys: set[str]) -> None:
    assert touched(RUNS, event) == keys


async def messages(stream: AsyncIterator[str], count: int) -> list[dict[str, Any]]:
    found = []
    async for text in stream:
        if text.startswith("data: "):
            found.append(json.loads(text[6:]))
            if len(found) == count:
                break
    return found


async def subscription(revisions: Revisions) -> None:
    while not revisions.subscribed():
        await asyncio.sleep(0)


def test_a_burst_is_one_message() -> None:
    async def scenario() -> list[dict[str, Any]]:
        revisions = Revisions()
        revisions.attach(asyncio.get_running_loop())
        stream = revisions.stream("a")
        first = await messages(stream, 1)
        for _ in range(50):
            await asyncio.to_thread(revisions.mark, ["a"])
        second = await asyncio.wait_for(messages(revisions.stream("a"), 1), 30)
        return first + second

    before, after = asyncio.run(scenario())
    assert after["revision"] == before["revision"] + 50


def test_stream_ends_and_leaves_nothing_behind() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        revisions = Revisions(lambda key: {"numbers": {"name": key}})
        revisions.attach(asyncio.get_running_loop())
        task = asyncio.create_task(messages(revisions.stream("a"), 99))
        await subscription(revisions)
        watched = revisions.subscribed()
        revisions.close()
        found = await asyncio.wait_for(task, 30)
        assert found[0]["numbers"] == {"name": "a"}
        return watched, revisions.subscribed()

    assert asyncio.run(scenario()) == (["a"], [])


def test_cancelled_stream_is_forgotten() -> None:
    async def scenario() -> list[str]:
        revisions = Revisions()
        revisions.attach(asyncio.get_running_loop())
        task = asyncio.create_task(messages(revisions.stream("a"), 99))
        await subscription(revisions)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return revisions.subscribed()

    assert asyncio.run(scenario()) == []


def test_mark_after_the_loop_has_closed() -> None:
    revisions = Revisions()
    loop = asyncio.new_event_loop()
    revisions.attach(loop)
    loop.close()
    revisions.mark(["a"])


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.01)


@pytest.mark.parametrize("make", [None, PollingObserver])
def test_an_append_counts_up(tmp_path: Path, make: Any) -> None:
    layout = make_run(tmp_path, "a", steps=2)
    revisions = Revisions()
    watcher = Watcher(tmp_path, revisions, make=(lambda: PollingObserver(timeout=0.05)) if make else watch.Observer)
    watcher.start()
    try:
        before, listed = revisions.current("a"), revisions.current(LIST)
        JsonlWriter(layout.metrics).write(3, {"loss": 1.0})
        wait_for(lambda: revisions.current("a") > before)
        assert revisions.current(LIST) == listed, "a step is no news for the list"
        layout.metrics.read_bytes()
        make_run(tmp_path, "b", steps=2)
        wait_for(lambda: revisions.current(LIST) > listed and revisions.current("b") > listed)
    finally:
        watcher.stop()


def test_falls_back_to_polling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(PollingObserver):
        def start(self) -> None:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

    watcher = Watcher(tmp_path, Revisions(), make=Full)
    watcher.start()
    try:
        assert isinstance(watcher._observer, PollingObserver)
        assert "polling once a second" in caplog.text
    finally:
        watcher.stop()


def test_keeps_up_with_a_replaced_folder(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    revisions = Revisions()
    watcher = Watcher(runs, revisions)
    watcher.start()
    try:
        shutil.rmtree(runs)
        watcher.keep_up()
        make_run(runs, "a", steps=2)
        watcher.keep_up()
        before = revisions.current("a")
        JsonlWriter(runs / "a" / "metrics.jsonl").write(3, {"loss": 1.0})
        wait_for(lambda: revisions.current("a") > before)
    finally:
        watcher.stop()


def test_service_describes_a_run_and_its_absence(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=42)
    service = Service(tmp_path)
    described = service.describe("a")
    assert described["numbers"]["step"] == "42"
    (tmp_path / "a" / "checkpoints").mkdir()
    again = service.describe("a")
    assert again["checkpoints"] != described["checkpoints"] and again["snapshots"] == described["snapshots"]
    assert service.describe("../a") == {
        "head": "gone",
        "curves": "gone",
        "snapshots": "gone",
        "checkpoints": "gone",
        "numbers": {},
    }
    assert service.describe(LIST) == {}


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("box", False)]
)
def test_hosts(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_real_server_streams_and_ends_its_streams(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    with dashboard(tmp_path) as address:
        stream = urllib.request.urlopen(f"{address}/push?run=a", timeout=60)
        assert stream.headers["content-type"].startswith("text/event-stream")
        first = json.loads(stream.readline()[6:])
        assert first["numbers"]["step"] == "5"
        stream.readline()
        JsonlWriter(layout.metrics).write(6, {"loss": 1.0})
        assert json.loads(stream.readline()[6:])["numbers"]["step"] == "6"
        stream.readline()
    assert stream.read() == b"", "Ctrl-C ends an open stream in order: a connection that is cut off would raise IncompleteRead"


def run_main(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dashboard", *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_port_taken_names_the_next_action(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = run_main("--runs", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert done.returncode != 0
    assert "is taken" in done.stderr and "--port" in done.stderr and "Traceback" not in done.stderr


def test_runs_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_main("--runs", str(tmp_path / "file"), "--port", "0")
    assert done.returncode != 0 and "is a file" in done.stderr


async def checked(watcher: Watcher, state_of: Any, shown: Any, rounds: int) -> None:
    """So many rounds of the checks, without their pauses."""
    left = rounds

    async def sleep(_seconds: float) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(asyncio.CancelledError):
        patch.setattr(asyncio, "sleep", sleep)
        await watch.check_silent_changes(watcher, state_of, shown)


def test_what_died_while_nobody_looked_is_told_at_the_first_look(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=5, state=RunState.RUNNING, pid=os.getpid())
    service = Service(tmp_path)
    before = service.describe("a")["head"]
    info = read_record(layout.run_json, RunInfo)
    info.sessions[-1].pid = GONE_PID  # as if the process were gone; no watcher is there to see the file
    write_record(layout.run_json, info)
    first, listed = (service.revisions.current(key) for key in ("a", LIST))

    async def scenario() -> None:
        with service.revisions.subscribe("a"), service.revisions.subscribe(LIST):
            await checked(service.watcher, service.state_of, service.shown, 1)
            assert service.revisions.current("a") == first + 1 and service.revisions.current(LIST) > listed
            assert service.describe("a")["head"] != before
            await checked(service.watcher, service.state_of, service.shown, 2)
            assert service.revisions.current("a") == first + 1, "it is shown as it is"

    service.watcher._root = service.watcher._identity()
    asyncio.run(scenario())


def test_one_run_that_cannot_be_looked_at_hinders_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher(tmp_path, Revisions())
    watcher._root = watcher._identity()

    def state_of(key: str) -> str:
        if key == "odd":
            raise RuntimeError("nobody foresaw this")
        return "dead"

    async def scenario() -> None:
        with watcher.revisions.subscribe("odd"), watcher.revisions.subscribe("a"):
            before = watcher.revisions.current("a")
            await checked(watcher, state_of, lambda _key: "running", 3)
            assert watcher.revisions.current("a") == before + 1

    asyncio.run(scenario())
    told = [record for record in caplog.records if "odd: RuntimeError" in record.message]
    assert len(told) == 1 and told[0].exc_info, "once, with its traceback"


def test_a_loop_that_fails_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlive, "PAUSE_S", 0)
    tries = iter([ValueError("one"), KeyError("two"), None])

    async def work() -> None:
        error = next(tries)
        if error is not None:
            raise error

    asyncio.run(asyncio.wait_for(outlive.restarted("a loop", work), 5))
    assert next(tries, "all were used") == "all were used"
