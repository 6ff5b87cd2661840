"""What has become of a job, from what its runner noted and from its processes."""

import contextlib
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dashboard.jobs.process import alive
from dashboard.jobs.record import ACTIVE, Job, JobFolder, JobState, Noted, Process
from dashboard.runs.loading import resolve_run
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
WRITE_A_RUN = ("train", "resume")
SILENT_AFTER = timedelta(minutes=10)
"""A job of another machine of which nothing was written for so long is not counted on any more; a training writes every few seconds."""


def settle(job: Job, folder: JobFolder, runs: Path) -> bool:
    """Bring an active job up to date; whether anything changed."""
    before = job.model_dump()
    noted, ended = folder.noted(job.id, ".process"), folder.noted(job.id, ".exit")
    if noted is not None and noted.pid is not None:
        job.process, job.state = Process(pid=noted.pid, birth=noted.birth), JobState.RUNNING
        if job.run is None and job.words[0] in WRITE_A_RUN:
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


def seen_from(host: str, job: Job, folder: JobFolder, runs: Path) -> Job:
    """The job as it looks from `host`: one of another machine (or of a container that was replaced) that has long been silent is lost.

    Only in this view: its record is left to its own machine, which may come back.
    """
    if job.host == host or job.state not in ACTIVE:
        return job
    heard = _heard(job, folder, runs)
    if now() - heard < SILENT_AFTER:
        return job
    minutes = SILENT_AFTER.seconds // 60
    reason = (
        f"it was started on {job.host}, and neither it nor its run has written anything for {minutes} minutes. If that machine or "
        "container is gone, so is the job; if it is not, look from a dashboard there"
    )
    return job.model_copy(update={"state": JobState.LOST, "ended_at": heard, "reason": reason})


def _heard(job: Job, folder: JobFolder, runs: Path) -> datetime:
    """When a job or its run last wrote."""
    layout = resolve_run(runs, job.run) if job.run else None
    paths = [folder.file(job.id, suffix) for suffix in (".json", ".log", ".process", ".exit")]
    times = [job.started_at or job.created_at]
    for path in [*paths, *([layout.heartbeat] if layout else [])]:
        with contextlib.suppress(OSError):
            times.append(datetime.fromtimestamp(path.stat().st_mtime, UTC))
    return max(times)


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
