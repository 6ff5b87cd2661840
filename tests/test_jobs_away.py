"""Jobs that another machine follows, and what wakes the queue and what does not."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard.jobs import queue, settle
from dashboard.jobs.queue import Jobs
from dashboard.jobs.record import KEY, Job, JobState
from dashboard.runs.watch import Revisions
from shared.errors import InputError
from shared.schema import RunState, now
from tests.run_factory import beat, make_run

ID = "20260101-000000-abcd"


def record(jobs: Jobs, *words: str, host: str, silent: timedelta = timedelta(hours=1), run: str | None = None) -> Job:
    """A running job whose files were last written that long ago."""
    job = Job(
        id=ID, words=list(words), device="cpu", host=host, order=1, state=JobState.RUNNING, started_at=now() - silent, run=run
    )
    with jobs.folder.locked():
        jobs.folder.write(job)
        jobs.folder.file(ID, ".log").touch()
    then = (now() - silent).timestamp()
    for suffix in (".json", ".log"):
        os.utime(jobs.folder.file(ID, suffix), (then, then))
    return job


def test_a_job_of_a_container_that_is_gone_is_lost_and_can_be_forgotten(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, allowed=True)
    record(jobs, "train", host="an-earlier-container")
    seen = jobs.get(ID)
    assert seen.state is JobState.LOST and "started on an-earlier-container" in str(seen.reason) and seen.ended_at is not None
    assert jobs.all()[0] == [seen] and jobs.message().keys() == {"jobs"}
    assert jobs.folder.read(ID).state is JobState.RUNNING, "its record is left to its own machine"
    jobs.forget(ID)
    assert jobs.all() == ([], [])


@pytest.mark.parametrize("sign", ["log", "run"])
def test_a_job_of_another_machine_that_still_writes_is_running(tmp_path: Path, sign: str) -> None:
    jobs = Jobs(tmp_path, allowed=True)
    layout = make_run(tmp_path, "away", steps=5, state=RunState.RUNNING)
    os.utime(layout.heartbeat, (0, 0))
    record(jobs, "train", host="another", run="away")
    assert jobs.get(ID).state is JobState.LOST
    if sign == "log":
        jobs.folder.file(ID, ".log").write_text("step 5")
    else:
        beat(layout, 6)
    assert jobs.get(ID).state is JobState.RUNNING
    with pytest.raises(InputError, match="has not ended"):
        jobs.forget(ID)


@pytest.mark.parametrize(("words", "looked"), [(("diagnose", "x"), 0), (("train",), 1)])
def test_only_for_what_writes_a_run_all_runs_are_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], looked: int
) -> None:
    jobs, asked = Jobs(tmp_path, allowed=True), []
    monkeypatch.setattr(settle, "run_of_process", lambda *given: asked.append(given))
    job = record(jobs, *words, host=jobs.host)
    jobs.folder.file(ID, ".process").write_text(f'{{"schema_version": 1, "at": "{now().isoformat()}", "pid": 1, "birth": "0"}}')
    settle.settle(job, jobs.folder, tmp_path)
    assert len(asked) == looked


def test_what_jobs_print_moves_no_job_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Folder:
        """Counts the looks at its time."""

        looks, time = 0, "1"

        @property
        def token(self) -> str:
            self.looks += 1
            return self.time

    jobs, folder, ticks = Jobs(tmp_path, allowed=True), Folder(), []
    jobs.folder: Any = folder
    monkeypatch.setattr(jobs, "tick", lambda: bool(ticks.append(1)))
    monkeypatch.setattr(queue, "GAP_S", 0)

    async def scenario() -> None:
        revisions = Revisions()
        revisions.attach(asyncio.get_running_loop())
        following = asyncio.create_task(jobs.run(revisions))
        for time, looks in (("1", 1), ("1", 2), ("1", 3), ("2", 4)):
            folder.time = time
            revisions.mark([KEY])
            while folder.looks < looks:
                await asyncio.sleep(0)
        while len(ticks) < 2:
            await asyncio.sleep(0)
        following.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert len(ticks) == 2, "once at the start, once for a record"
