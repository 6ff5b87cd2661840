"""How long a run took, as the list shows it: the time of its sessions, without the pause before a resume."""

from datetime import timedelta
from pathlib import Path

from backend.recorder import RunRecorder
from dashboard.overview.entries import RunSummary
from shared.layout import RunLayout
from shared.reader import read_status
from shared.schema import RunInfo, RunState, Session, now


def test_a_pause_between_interrupt_and_resume_is_left_out(tmp_path: Path) -> None:
    began = now() - timedelta(seconds=800)
    info = RunInfo(name="a", config={}, created_at=began)
    info.sessions.append(Session(started_at=began, from_step=0, pid=1, host="h", command=[]))
    first = RunRecorder(RunLayout(tmp_path), info)
    first.begin()
    first.end(RunState.INTERRUPTED)
    assert info.sessions[0].ended_at is not None
    info.sessions[0].ended_at = began + timedelta(seconds=300)
    info.sessions.append(Session(started_at=began + timedelta(seconds=740), from_step=0, pid=1, host="h", command=[]))
    second = RunRecorder(RunLayout(tmp_path), info)
    second.begin()
    second.end(RunState.FINISHED)
    took = RunSummary(read_status(RunLayout(tmp_path))).duration_s
    assert took is not None and 359 < took < 380
