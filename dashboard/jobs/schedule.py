"""Which queued job may start, and what the others wait for: one job per GPU, one on the CPU, and one analysis beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dashboard.jobs.record import ACTIVE, ANALYSIS, CPU, Job, JobState, parse_device

TRAINING = frozenset({"train", "resume", "preflight"})
"""Commands that take a device to themselves; all others are analyses, short and on the CPU."""


@dataclass
class Places:
    """What each queued job gets (`lanes`) or waits for (`reasons`)."""

    lanes: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def title(job: Job) -> str:
    """What a job is, in a few words: the command, and the run or data that it is about."""
    named = dict(zip(job.words, job.words[1:], strict=False))
    about = next((named[name] for name in ("--run_name", "--resume_from_checkpoint", "--data_dir") if name in named), None)
    if about is None and len(job.words) > 1 and not job.words[1].startswith("-"):
        about = job.words[1]
    return f"{job.words[0]} {_short(about)}" if about else job.words[0]


def _short(path: str) -> str:
    """The run of a checkpoint, or the last part of any other path."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[-2] == "checkpoints":
        return f"{parts[-3]} from {parts[-1]}"
    return parts[-1] if parts else path


def place(jobs: Sequence[Job], gpus: Sequence[int]) -> Places:
    """Where the queued of `jobs` (in the order of the queue) go. A job that waits keeps its place: none behind it may take it."""
    held = {lane: f"job {title(job)}" for job in jobs if job.state in ACTIVE for lane in job.lanes}
    promised: dict[str, str] = {}
    found = Places()
    for job in jobs:
        if job.state is not JobState.QUEUED:
            continue
        wanted, reason = _wanted(job, gpus, held | promised)
        taken = {lane: (held | promised)[lane] for lane in wanted if lane in held or lane in promised}
        if reason is None and not taken:
            found.lanes[job.id] = wanted
            held |= dict.fromkeys(wanted, f"job {title(job)}")
        else:
            found.reasons[job.id] = reason or "; ".join(f"waiting for {shown(lane)}: {who}" for lane, who in taken.items())
            first = {lane: f"job {title(job)}, which is before it" for lane in wanted if lane not in held}
            promised = first | promised
    return found


def _wanted(job: Job, gpus: Sequence[int], taken: dict[str, str]) -> tuple[list[str], str | None]:
    """Lanes, and why there are none."""
    if job.device in (CPU, ANALYSIS):
        return [job.device], None
    chosen = parse_device(job.device)
    if chosen is None:
        lanes = [f"gpu {index}" for index in gpus]
        free = [lane for lane in lanes if lane not in taken]
        if not lanes:
            return [], "no GPU can be seen on this machine (nvidia-smi)"
        return (free[:1], None) if free else ([], f"waiting for any GPU: {', '.join(taken[lane] for lane in lanes)}")
    missing = [index for index in chosen if index not in gpus]
    lanes = [f"gpu {index}" for index in chosen]
    return lanes, f"GPU {missing[0]} cannot be seen on this machine (nvidia-smi)" if missing else None


def shown(lane: str) -> str:
    """A lane as people say it."""
    return {CPU: "the CPU", ANALYSIS: "the analysis before it"}.get(lane, lane.upper())
