"""Real trainings as jobs: stopped gracefully, killed, resumed, and found again by another dashboard."""

from pathlib import Path

import pytest

from dashboard.jobs.detail import progress_of
from dashboard.jobs.draft import from_checkpoint
from dashboard.jobs.queue import Jobs
from dashboard.jobs.record import Job, JobState
from dashboard.runs.loading import resolve_run
from shared.reader import read_status
from tests.test_jobs import ends, runs_on, state, until
from tests.tiny_runs import TINY, stays  # noqa: F401

pytestmark = pytest.mark.slow


def words(data: Path, runs: Path, **options: object) -> list[str]:
    given = {**TINY, "max_epochs": 2000, **options, "data_dir": data, "output_dir": runs}
    return ["train", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def until_saved(jobs: Jobs, job: Job) -> str:
    """Wait until its run is known and has a checkpoint."""

    def saved() -> bool:
        return state(jobs, job) is JobState.RUNNING and progress_of(jobs.runs, jobs.get(job.id))[1] is not None

    runs_on(jobs, job)
    until(saved, "a checkpoint")
    run = jobs.get(job.id).run
    assert run is not None
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_stop_kill_and_resume_across_dashboards(runs: Path, stays: Path) -> None:  # noqa: F811
    first = Jobs(runs, allowed=True)
    job = first.submit(words(stays, runs, run_name="stopped"), "cpu")
    run = until_saved(first, job)
    layout = resolve_run(runs, run)
    assert layout is not None and run.startswith("stopped-")

    restarted = Jobs(runs, allowed=True)
    restarted.stop(job.id)
    assert restarted.get(job.id).stopping
    stopped = ends(restarted, job)
    assert (stopped.state, stopped.exit_status) == (JobState.INTERRUPTED, 130)
    assert list(layout.checkpoints.glob("interrupted_*.ckpt")) and read_status(layout).health == "interrupted"
    assert "go on with" in restarted.folder.file(job.id, ".log").read_text()

    draft = from_checkpoint(run, runs)
    draft.enter("learning_rate", "1e-4")
    config, _ = draft.checked()
    assert config is not None
    resumed = restarted.submit(draft.words(config), "cpu")
    runs_on(restarted, resumed)
    until(lambda: state(restarted, resumed) is JobState.RUNNING and restarted.get(resumed.id).run == run, "the same run")
    before = progress_of(runs, stopped)[0] or 0
    until(lambda: (progress_of(runs, stopped)[0] or 0) > before, "a step more")
    restarted.kill(resumed.id)
    assert ends(restarted, resumed).state is JobState.KILLED
    assert read_status(layout).health == "dead", "a kill leaves no time to write a state; the page offers to resume"


def test_bad_data_fails_with_its_reason_in_the_log(runs: Path, tmp_path: Path) -> None:
    jobs = Jobs(runs, allowed=True)
    job = ends(jobs, jobs.submit(words(tmp_path / "none", runs), "cpu"))
    assert job.state is JobState.FAILED and job.exit_status == 2 and job.run is None
    assert "not a prepared data set" in jobs.folder.file(job.id, ".log").read_text()
