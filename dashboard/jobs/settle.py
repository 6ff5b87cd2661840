"""What has become of a job, from what its runner noted and from its processes."""

import signal
import socket
from datetime import timedelta
from pathlib import Path

from dashboard.jobs.process import alive
from dashboard.jobs.record import Job, JobFolder, JobState, Noted, Process
from shared.errors import InputError
from shared.layout import iter_runs
from shared.reader import read_record
from shared.schema import RunInfo, now

UNSTARTED_AFTER = timedelta(seconds=30)
INTERRUPTED = 130
COLLAPSED = 3
"""Exit status of `train` with --on_collapse stop; of `preflight` when something stands against the run."""
MEANINGS = {
    ("train", COLLAPSED): (JobState.INTERRUPTED, "stopped at a collapse (--on_collapse)"),
    ("resume", COLLAPSED): (JobState.INTERRUPTED, "stopped at a collapse (--on_collapse)"),
    ("preflight", 3): (JobState.FINISHED, "something stands against this run: see its report"),
    ("diagnose", 3): (JobState.FINISHED, "a warning: see its report"),
    ("diagnose", 4): (JobState.FINISHED, "an alarm: see its report"),
    ("diagnose", 5): (JobState.FINISHED, "too little was logged for a verdict"),
}
CLOCK_SLACK = timedelta(seconds=2)


def settle(job: Job, folder: JobFolder, runs: Path) -> bool:
    """Bring an active job up to date; whether anything changed."""
    before = job.model_dump()
    noted, ended = folder.noted(job.id, ".process"), folder.noted(job.id, ".exit")
    if noted is not None and noted.pid is not None:
        job.process, job.state = Process(pid=noted.pid, birth=noted.birth), JobState.RUNNING
        if job.run is None:
            job.run = run_of_process(noted, runs)
    if ended is not None:
        _end(job, ended)
    elif not alive(job.runner) and not alive(job.process):
        _lose(job, folder)
    return job.model_dump() != before


def _end(job: Job, ended: Noted) -> None:
    status = ended.status if ended.status is not None else 1
    job.ended_at, job.exit_status = ended.at, status
    if (job.words[0], status) in MEANINGS:
        job.state, job.reason = MEANINGS[job.words[0], status]
    elif status == 0:
        job.state = JobState.FINISHED
    elif status in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
        job.state = JobState.INTERRUPTED
    elif status == -signal.SIGKILL:
        job.state = JobState.KILLED
        if job.kill_asked_at is None:
            job.reason = "killed from outside (signal 9): perhaps by the system, for want of memory"
    else:
        job.state = JobState.FAILED
        named = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        job.reason = ended.error or f"{named}; the log says why"


def _lose(job: Job, folder: JobFolder) -> None:
    """Neither runner nor process is there, and no exit status was noted."""
    if folder.noted(job.id, ".exit") is not None:
        return  # it was noted while the processes were looked for: next time
    if job.runner is None and job.started_at is not None and now() - job.started_at < UNSTARTED_AFTER:
        return
    job.ended_at = now()
    if job.kill_asked_at is not None:
        job.state = JobState.KILLED
    else:
        job.state = JobState.LOST
        job.reason = "its process is gone and nobody noted how it ended (was the machine restarted?); resume its run to go on"


def run_of_process(noted: Noted, runs: Path) -> str | None:
    """The run that a process works on, from the sessions that runs note."""
    host, since = socket.gethostname(), noted.at - CLOCK_SLACK
    for layout in iter_runs(runs):
        try:
            if layout.run_json.stat().st_mtime < since.timestamp():
                continue
            info = read_record(layout.run_json, RunInfo)
        except (OSError, InputError):
            continue
        if any(s.pid == noted.pid and s.host == host and s.started_at >= since for s in info.sessions):
            return layout.root.name
    return None
