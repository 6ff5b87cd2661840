"""A run as it is seen from outside: its own state, or what became of a process that could not say."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from shared import layout as layout_module
from shared.layout import RunLayout, iter_runs
from shared.reader import Health, list_runs, read_record, read_status
from shared.schema import Heartbeat, RunInfo, RunState, Session, now
from shared.writer import write_record

HERE = socket.gethostname()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def a_run(
    folder: Path, state: RunState, pid: int | None = None, host: str = HERE, age_s: float = 0.0, beats: bool = True
) -> RunLayout:
    """A run directory whose process is `pid` and whose last sign of life is `age_s` old."""
    layout = RunLayout(folder)
    folder.mkdir(parents=True)
    at = now() - timedelta(seconds=age_s)
    info = RunInfo(name=folder.name, config={}, state=state, created_at=at, state_since=at)
    if pid is not None:
        info.sessions.append(Session(started_at=at, from_step=0, pid=pid, host=host, command=[]))
        if beats:
            write_record(layout.heartbeat, Heartbeat(at=at, pid=pid, host=host, step=5))
    write_record(layout.run_json, info)
    return layout


def test_status_of_a_created_run(tmp_path: Path) -> None:
    status = read_status(a_run(tmp_path / "a", RunState.CREATED))
    assert (status.health, status.reason, status.heartbeat) == (Health.CREATED, None, None)


def test_status_of_a_running_run(tmp_path: Path) -> None:
    status = read_status(a_run(tmp_path / "a", RunState.RUNNING, os.getpid()))
    assert (status.health, status.reason, status.name) == (Health.RUNNING, None, "a")
    assert status.heartbeat is not None and status.heartbeat.step == 5


@pytest.mark.parametrize("pid", [None, 4_000_000], ids=["never taken up", "elsewhere"])
def test_status_of_a_silent_run(tmp_path: Path, pid: int | None) -> None:
    status = read_status(a_run(tmp_path / "a", RunState.RUNNING, pid, host="another-host", age_s=600))
    assert status.health is Health.STALE
    assert status.reason is not None and "no heartbeat for 10 min" in status.reason and "None" not in status.reason


def test_silent_process_that_still_exists_is_stale_not_dead(tmp_path: Path) -> None:
    assert read_status(a_run(tmp_path / "a", RunState.RUNNING, os.getpid(), age_s=600)).health is Health.STALE


@pytest.mark.parametrize("host", [HERE, "another-host"])
def test_run_that_has_just_been_resumed_is_not_judged_by_the_heartbeat_of_its_last_session(tmp_path: Path, host: str) -> None:
    layout = a_run(tmp_path / "a", RunState.RUNNING, os.getpid(), age_s=600)
    info = read_record(layout.run_json, RunInfo)
    info.sessions.append(Session(started_at=now(), from_step=5, pid=os.getpid(), host=host, command=[]))
    write_record(layout.run_json, info)
    status = read_status(layout)
    assert (status.health, status.reason) == (Health.RUNNING, None)


def test_process_on_another_host_cannot_be_called_dead(tmp_path: Path) -> None:
    assert read_status(a_run(tmp_path / "a", RunState.RUNNING, dead_pid(), host="another-host")).health is Health.RUNNING


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.CREATED])
def test_status_of_a_killed_run(tmp_path: Path, state: RunState) -> None:
    status = read_status(a_run(tmp_path / "a", state, dead_pid()))
    assert status.health is Health.DEAD and status.reason is not None and "resume" in status.reason


def test_zombie_counts_as_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert read_status(a_run(tmp_path / "a", RunState.RUNNING, process.pid)).health is Health.DEAD
    finally:
        process.wait()


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.INTERRUPTED, RunState.FAILED])
def test_final_states_stand_whatever_the_process_does(tmp_path: Path, state: RunState) -> None:
    status = read_status(a_run(tmp_path / "a", state, dead_pid(), age_s=10**6))
    assert (status.health.value, status.reason) == (state.value, None)


def test_error_of_a_failed_run_is_its_reason(tmp_path: Path) -> None:
    layout = a_run(tmp_path / "a", RunState.FAILED)
    info = read_record(layout.run_json, RunInfo)
    write_record(layout.run_json, info.model_copy(update={"error": "out of memory"}))
    assert read_status(layout).reason == "out of memory"


def test_broken_run_says_so(tmp_path: Path) -> None:
    layout = a_run(tmp_path / "a", RunState.RUNNING)
    layout.run_json.write_text("{")
    status = read_status(layout)
    assert status.health is Health.BROKEN and status.info is None
    assert status.reason is not None and "not valid JSON" in status.reason
    assert read_status(RunLayout(tmp_path / "gone")).health is Health.BROKEN


def test_broken_heartbeat_is_named_and_does_not_hide_the_run(tmp_path: Path) -> None:
    layout = a_run(tmp_path / "a", RunState.RUNNING, os.getpid())
    layout.heartbeat.write_text("{}")
    status = read_status(layout)
    assert status.health is Health.RUNNING
    assert status.reason is not None and "heartbeat.json" in status.reason


def test_list_is_newest_first_with_broken_ones_last(tmp_path: Path) -> None:
    a_run(tmp_path / "old", RunState.FINISHED, age_s=100)
    a_run(tmp_path / "new", RunState.FINISHED)
    a_run(tmp_path / "broken", RunState.FINISHED).run_json.write_text("")
    a_run(tmp_path / ".hidden", RunState.FINISHED)
    (tmp_path / "not-a-run").mkdir()
    (tmp_path / "file").touch()
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old", "broken"]
    assert list_runs(tmp_path / "absent") == []


def test_unreadable_run_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path / "mine", RunState.FINISHED)
    private = a_run(tmp_path / "private", RunState.FINISHED)
    exists = Path.exists

    def refused(path: Path) -> bool:
        if path == private.run_json:
            raise PermissionError(13, "Permission denied")
        return exists(path)

    monkeypatch.setattr(layout_module.Path, "exists", refused)
    assert [layout.root.name for layout in iter_runs(tmp_path)] == ["mine", "private"]


def test_snapshots_in_step_order(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    assert layout.snapshots("posterior") == []
    layout.posterior(1).parent.mkdir()
    for step in (200, 3, 1_000_000_000):
        layout.posterior(step).touch()
    (tmp_path / "posterior" / "step-000000003 (copy).parquet").touch()
    assert layout.snapshots("posterior") == [(step, layout.posterior(step)) for step in (3, 200, 1_000_000_000)]
