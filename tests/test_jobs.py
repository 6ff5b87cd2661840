"""The queue of jobs with real processes, run by a small program in the place of the backend; and the words that may become jobs."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shared.layout
from dashboard.jobs import runner
from dashboard.jobs.process import alive
from dashboard.jobs.queue import Jobs
from dashboard.jobs.record import ACTIVE, ENDED, Job, JobState, Process
from shared.errors import InputError
from tests.run_factory import make_run

PROGRAM = '''
"""Notes what it was given, then does what its run name says."""
import json, os, signal, sys, time
from pathlib import Path

name = sys.argv[sys.argv.index("--run_name") + 1] if "--run_name" in sys.argv else "end"
given = {"words": sys.argv[1:], "cards": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
with Path(f"{name}.jsonl").open("a") as file:
    file.write(json.dumps(given) + "\\n")
print("hello from", name, flush=True)
if name.startswith("wait"):
    while not asked and not Path(f"{name}.go").exists():
        time.sleep(0.01)
sys.exit(130 if asked else 7 if name.startswith("fail") else 0)
'''


def until(true: Callable[[], bool], what: str, within: float = 120) -> None:
    """Wait for another process, which has no other way to say how far it is."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"{what} did not come true"
        time.sleep(0.01)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder where `python -m backend` is the small program; `runs` is in it."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "__main__.py").write_text(PROGRAM)
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.fixture
def jobs(place: Path) -> Iterator[Jobs]:
    queue = queue_at(place)
    yield queue
    for job in queue.all()[0]:
        if job.state in ACTIVE and job.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.process.pid, signal.SIGKILL)


def queue_at(place: Path, allowed: bool = True) -> Jobs:
    return Jobs(place / "runs", allowed=allowed, cwd=place)


def words(place: Path, name: str, *more: str) -> list[str]:
    return ["train", "--run_name", name, "--output_dir", str(place / "runs"), *more]


def state(jobs: Jobs, job: Job) -> JobState:
    jobs.tick()
    return jobs.get(job.id).state


def ends(jobs: Jobs, job: Job) -> Job:
    until(lambda: state(jobs, job) in ENDED, f"the end of {job.words}")
    return jobs.get(job.id)


def runs_on(jobs: Jobs, job: Job) -> Process:
    until(lambda: state(jobs, job) is JobState.RUNNING, f"running of {job.words}")
    process = jobs.get(job.id).process
    assert process is not None
    return process


def given(place: Path, name: str) -> list[dict]:
    path = place / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_job_runs_to_its_end_and_what_it_printed_is_kept(jobs: Jobs, place: Path) -> None:
    job = ends(jobs, jobs.submit(words(place, "end"), "cpu"))
    assert (job.state, job.exit_status, job.lanes) == (JobState.FINISHED, 0, ["cpu"])
    assert job.started_at is not None and job.ended_at is not None and job.ended_at >= job.started_at
    assert jobs.folder.file(job.id, ".log").read_text() == "hello from end\n"
    assert given(place, "end")[0]["cards"] == "", "a job on the CPU sees no GPU"


def test_exit_statuses_have_their_meaning(jobs: Jobs, place: Path) -> None:
    failed = ends(jobs, jobs.submit(words(place, "fail"), "cpu"))
    assert failed.state is JobState.FAILED and failed.reason == "exit status 7; the log says why"


def test_an_argument_stays_one_argument_whatever_it_holds(jobs: Jobs, place: Path) -> None:
    hostile = "; touch stolen; $(touch stolen) `touch stolen` && 'x\" \n --no_x ☃"
    job = ends(jobs, jobs.submit(words(place, "end", "--label", hostile), "cpu"))
    assert given(place, "end")[0]["words"] == job.words and hostile in job.words
    assert not list(place.rglob("stolen"))


def test_jobs_wait_for_their_device_in_the_order_of_the_queue(jobs: Jobs, place: Path) -> None:
    first, second, third = (jobs.submit(words(place, name), "cpu") for name in ("wait-1", "wait-2", "wait-3"))
    runs_on(jobs, first)
    assert state(jobs, second) is JobState.QUEUED
    assert jobs.places().reasons[second.id] == "waiting for the CPU: job train wait-1"
    jobs.move(third.id, -1)
    jobs.move(third.id, -1)
    assert [job.id for job in jobs.all()[0]] == [first.id, third.id, second.id]
    (place / "wait-1.go").touch()
    runs_on(jobs, third)
    assert state(jobs, second) is JobState.QUEUED
    jobs.cancel(second.id)
    (place / "wait-3.go").touch()
    ends(jobs, third)
    assert state(jobs, second) is JobState.CANCELLED and not given(place, "wait-2")
    with pytest.raises(InputError, match="is cancelled, so it cannot be taken out"):
        jobs.cancel(second.id)


def test_an_analysis_does_not_wait_for_a_training(jobs: Jobs, place: Path) -> None:
    runs_on(jobs, jobs.submit(words(place, "wait"), "cpu"))
    run = make_run(place / "runs", "old", steps=5).root
    analysis = jobs.submit(["diagnose", str(run)], jobs.default_device("diagnose"))
    assert analysis.device == "analysis" and ends(jobs, analysis).run == "old"


def test_stop_asks_and_kill_ends(jobs: Jobs, place: Path) -> None:
    job = jobs.submit(words(place, "wait"), "cpu")
    runs_on(jobs, job)
    until(lambda: bool(given(place, "wait")), "its handler of signals")
    jobs.stop(job.id)
    stopped = ends(jobs, job)
    assert (stopped.state, stopped.exit_status) == (JobState.INTERRUPTED, 130) and stopped.stop_asked_at is not None
    with pytest.raises(InputError, match="no process to stop"):
        jobs.stop(job.id)
    other = jobs.submit(words(place, "wait-on"), "cpu")
    runs_on(jobs, other)
    jobs.kill(other.id)
    assert ends(jobs, other).state is JobState.KILLED


def test_killed_from_outside_is_told_apart(jobs: Jobs, place: Path) -> None:
    job = jobs.submit(words(place, "wait"), "cpu")
    os.kill(runs_on(jobs, job).pid, signal.SIGKILL)
    ended = ends(jobs, job)
    assert ended.state is JobState.KILLED and "for want of memory" in (ended.reason or "")


def test_a_new_dashboard_finds_the_job_and_learns_how_it_ended_meanwhile(jobs: Jobs, place: Path) -> None:
    """Another process submits and goes, as a dashboard that is restarted does."""
    code = (
        "import sys; from pathlib import Path; from dashboard.jobs.queue import Jobs;"
        "place = Path(sys.argv[1]); jobs = Jobs(place / 'runs', allowed=True, cwd=place);"
        "print(jobs.submit(['train', '--run_name', 'wait', '--output_dir', str(place / 'runs')], 'cpu').id)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
    job = jobs.get(answer.stdout.strip())
    process = runs_on(jobs, job)
    assert alive(process)
    runner = jobs.get(job.id).runner
    (place / "wait.go").touch()
    until(lambda: not alive(runner), "the end of the runner")
    assert queue_at(place, allowed=False).get(job.id).state is JobState.RUNNING, "nobody has looked yet"
    assert ends(queue_at(place, allowed=False), job).state is JobState.FINISHED, "also one that may start nothing"


def test_a_job_whose_processes_are_gone_without_a_word_is_lost(jobs: Jobs, place: Path) -> None:
    job = jobs.submit(words(place, "wait"), "cpu")
    process, runner = runs_on(jobs, job), jobs.get(job.id).runner or pytest.fail("no runner")
    os.kill(runner.pid, signal.SIGKILL)
    until(lambda: not alive(runner), "the end of the runner")
    assert state(jobs, job) is JobState.RUNNING, "the job itself goes on"
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not alive(process), "the end of the process")
    lost = ends(jobs, job)
    assert lost.state is JobState.LOST and "resume its run" in (lost.reason or "")


def test_another_process_of_the_same_number_is_left_alone(jobs: Jobs, place: Path) -> None:
    job = jobs.submit(words(place, "wait"), "cpu")
    process = runs_on(jobs, job)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        note = jobs.folder.file(job.id, ".process")
        noted = json.loads(note.read_text()) | {"pid": stranger.pid}
        note.write_text(json.dumps(noted))
        with pytest.raises(InputError, match="no process to kill"):
            jobs.kill(job.id)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    os.kill(process.pid, signal.SIGKILL)


def test_two_dashboards_on_one_folder_start_each_job_once(jobs: Jobs, place: Path) -> None:
    other = queue_at(place)
    made = [jobs.submit(words(place, f"end-{number}"), "cpu") for number in range(4)]
    threads = [threading.Thread(target=lambda queue=queue: [ends(queue, job) for job in made]) for queue in (jobs, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(given(place, f"end-{number}")) for number in range(4)] == [1, 1, 1, 1]


def test_nothing_is_started_unless_it_is_allowed(place: Path) -> None:
    refused = queue_at(place, allowed=False)
    queued = Job(id=refused.folder.new_id(), words=words(place, "end"), device="cpu", host=refused.host, order=1)
    with refused.folder.locked():
        refused.folder.write(queued)
    assert state(refused, queued) is JobState.QUEUED
    for verb, *more in (("submit", "cpu"), ("cancel",), ("stop",), ("kill",), ("move", 1), ("forget",)):
        about = words(place, "end") if verb == "submit" else queued.id
        with pytest.raises(InputError, match="--allow-jobs"):
            getattr(refused, verb)(about, *more)


def test_a_record_that_cannot_be_read_is_named_and_holds_up_nothing(jobs: Jobs, place: Path) -> None:
    job = ends(jobs, jobs.submit(words(place, "end"), "cpu"))
    broken = jobs.folder.root / "20260101-000000-abcd.json"
    broken.write_text('{"schema_version": 2}')
    found, problems = jobs.all()
    assert [each.id for each in found] == [job.id]
    assert len(problems) == 1 and "schema_version is 2" in problems[0]
    jobs.forget(job.id)
    assert sorted(path.name for path in jobs.folder.root.iterdir()) == [".lock", broken.name]


@pytest.mark.parametrize("name", ["../x", "", "20260101-000000-abcd/../..", "20260101-000000-ABCD"])
def test_only_names_of_jobs_become_paths(jobs: Jobs, name: str) -> None:
    with pytest.raises(InputError, match="not the name of a job"):
        jobs.get(name)


def test_a_record_that_somebody_slipped_in_is_checked_before_it_runs(jobs: Jobs, place: Path) -> None:
    for number, bad in enumerate((["demo"], ["train", "--output_dir", "/tmp"], ["train", "--run_name", "end"])):
        slipped = Job(id=jobs.folder.new_id(), words=bad, device="cpu", host=jobs.host, order=number)
        with jobs.folder.locked():
            jobs.folder.write(slipped)
        ended = ends(jobs, slipped)
        assert ended.state is JobState.FAILED and "cannot be started: " in (ended.reason or "")
    assert not given(place, "end")


def test_a_program_that_cannot_be_started_says_why(jobs: Jobs, place: Path) -> None:
    jobs.cwd = place / "gone"
    job = ends(jobs, jobs.submit(words(place, "end"), "cpu"))
    assert job.state is JobState.FAILED and "No such file" in (job.reason or "")


def test_the_runner_knows_the_version_of_the_records() -> None:
    assert runner.SCHEMA_VERSION == shared.layout.SCHEMA_VERSION
    assert runner.birth(os.getpid()) == runner.birth(os.getpid()) is not None
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert runner.birth(child.pid) is None, "a process that nobody has waited for is dead all the same"


def test_gpus_are_given_one_job_each(jobs: Jobs, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = place / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ncase $1 in --query-gpu*) printf '0, GPU-a, A, 9, 80, 1\\n1, GPU-b, B, 1, 80, 1\\n';; esac\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    assert jobs.default_device("train") == "gpu"
    one, two = jobs.submit(words(place, "wait-a"), "gpu"), jobs.submit(words(place, "wait-b"), "gpu:0")
    both = jobs.submit(words(place, "wait-c", "--devices", "2"), "gpu:0,1")
    later = jobs.submit(words(place, "wait-d"), "gpu")
    runs_on(jobs, one), runs_on(jobs, two)
    until(lambda: bool(given(place, "wait-a") and given(place, "wait-b")), "both")
    assert given(place, "wait-a")[0]["cards"] == "1", "the one with more memory free"
    assert given(place, "wait-b")[0]["cards"] == "0"
    (place / "wait-a.go").touch()
    ends(jobs, one)
    assert state(jobs, later) is JobState.QUEUED, "GPU 1 is promised to the job before it"
    assert "which is before it" in jobs.places().reasons[later.id]
    (place / "wait-b.go").touch()
    runs_on(jobs, both)
    until(lambda: bool(given(place, "wait-c")), "the job on both")
    assert given(place, "wait-c")[0]["cards"] == "0,1"
