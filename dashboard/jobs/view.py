"""Devices and jobs as HTML: bars of memory and load, rows of the queue, the facts of one job."""

from urllib.parse import quote

from dashboard.formats import duration, moment
from dashboard.jobs.devices import Gpu, Machine
from dashboard.jobs.record import ACTIVE, ANALYSIS, Job, JobState
from dashboard.jobs.schedule import title
from dashboard.widgets import Html, banner, el

SIGNS: dict[JobState, tuple[str, str]] = {
    JobState.QUEUED: ("○", "created"),
    JobState.STARTING: ("●", "running"),
    JobState.RUNNING: ("●", "running"),
    JobState.FINISHED: ("✓", "finished"),
    JobState.INTERRUPTED: ("❙❙", "interrupted"),
    JobState.FAILED: ("✕", "failed"),
    JobState.KILLED: ("✕", "failed"),
    JobState.LOST: ("?", "stale"),
    JobState.CANCELLED: ("–", "created"),
}
"""Sign and colour of a state; the word is the state's own."""
GIB = 2**30


def badge(job: Job) -> Html:
    """Sign, word and colour of a job's state; asked to stop or kill is a state of its own to people."""
    sign, colour = SIGNS[job.state]
    word = job.state.value.capitalize()
    if job.state in ACTIVE and job.kill_asked_at is not None:
        word = "Being killed"
    elif job.stopping:
        word, colour = "Stopping", "interrupted"
    mark = el("span", sign, cls="sv-sign", aria_hidden="true")
    return el("span", mark, word, cls=f"sv-badge sv-{colour}", data_state=job.state.value)


def lanes(job: Job) -> str:
    """Where it runs, or what it asked for."""
    if not job.lanes:
        return {"cpu": "for the CPU", ANALYSIS: "beside training", "gpu": "for any GPU"}.get(
            job.device, f"for {job.device.replace(':', ' ').upper()}"
        )
    return ", ".join("CPU" if lane in ("cpu", ANALYSIS) else lane.upper() for lane in job.lanes)


def taken(job: Job) -> str:
    """When and how long."""
    if job.started_at is None:
        return f"queued {moment(job.created_at)} UTC"
    if job.ended_at is None:
        return f"since {moment(job.started_at)} UTC"
    return f"{moment(job.started_at)} UTC, {duration((job.ended_at - job.started_at).total_seconds())}"


def row(job: Job, host: str, reason: str | None = None) -> Html:
    """One job in the list, a link to its own view."""
    why = reason or (job.reason if job.state not in ACTIVE else None)
    away = f" · on {job.host}" if job.host != host else ""
    return el(
        "div",
        el("div", el("a", title(job), href=f"jobs?job={quote(job.id)}", data_run=job.id), badge(job), cls="sv-job-top"),
        el("div", f"{lanes(job)} · {taken(job)}{away}", cls="sv-dim"),
        el("div", why, cls="sv-job-why") if why else None,
        cls="sv-job", data_job=job.id, data_state=job.state.value,
    )  # fmt: skip


def about(job: Job) -> Html:
    """The head of a job's own view."""
    facts = [lanes(job), taken(job)]
    if job.exit_status is not None:
        facts.append(f"exit status {job.exit_status}" if job.exit_status >= 0 else f"signal {-job.exit_status}")
    if job.process is not None and job.state in ACTIVE:
        facts.append(f"process {job.process.pid} on {job.host}")
    return el(
        "header",
        el("h2", title(job)),
        el("p", badge(job), el("span", " · ".join(facts), cls="sv-dim"), cls="sv-about"),
        cls="sv-head sv-job-head",
    )


def told(job: Job, reason: str | None) -> Html | None:
    """What to know about its state, and what to do next; None where there is nothing to say."""
    if job.state is JobState.QUEUED:
        return banner("info", "In the queue.", _sentence(reason or "it starts as soon as its device is free"))
    if job.state in ACTIVE and job.kill_asked_at is not None:
        return banner("info", "Being killed.", "Its processes end within a moment.")
    if job.stopping and job.words[0] in ("train", "resume"):
        since = f"Asked at {moment(job.stop_asked_at)} UTC."
        return banner(
            "info", "Stopping:", f"it finishes the step in hand and saves an interrupted_* checkpoint. {since}",
            "Wait: a large model takes a moment to save. Kill it only if the log stands still.",
        )  # fmt: skip
    if job.stopping:
        return banner("info", "Stopping.", "It was asked to end, as Ctrl-C does.")
    return _ended(job)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _ended(job: Job) -> Html | None:
    resume = "Resume its run from the last checkpoint, or change the options and run again."
    if job.state is JobState.INTERRUPTED and job.words[0] in ("train", "resume"):
        return banner("info", "Interrupted.", job.reason or "It stopped as it was asked to and saved where it was.", resume)
    if job.state is JobState.FAILED:
        return banner("alarm", "Failed:", f"{job.reason}.", "Read the end of the log, mend the cause, and run it again.")
    if job.state is JobState.KILLED:
        return banner("warning", "Killed.", job.reason or "What came after its last checkpoint is lost.", resume)
    if job.state is JobState.LOST:
        return banner("warning", "Lost sight of:", f"{job.reason}.", resume)
    return banner("info", "Ended.", f"{job.reason}.") if job.reason else None


def machine(seen: Machine) -> Html:
    """CPU and GPUs with memory and load."""
    gpus = [_gpu(gpu) for gpu in seen.gpus]
    load = f" · load {seen.load:.1f}" if seen.load is not None else ""
    memory = f"{seen.used_bytes / GIB:.1f} of {seen.total_bytes / GIB:.0f} GiB memory"
    cpu = _device(
        "CPU", f"{seen.cores} cores{load}", ("busy", f"{seen.cpu_percent:.0f} % busy", seen.cpu_percent / 100),
        ("memory", memory, seen.used_bytes / seen.total_bytes),
    )  # fmt: skip
    problem = (
        [banner("warning", "GPUs cannot be seen:", f"{seen.problem}.", "Run nvidia-smi on that machine.")]
        if seen.problem
        else []
    )
    return el("div", *problem, *gpus, cpu, cls="sv-devices")


def _gpu(gpu: Gpu) -> Html:
    busy = f"{gpu.utilisation:.0f} % busy" if gpu.utilisation is not None else "load not told"
    who = f"{gpu.processes} process{'es' if gpu.processes != 1 else ''}" if gpu.processes else "no process"
    return _device(
        f"GPU {gpu.index}", f"{gpu.name} · {who}", ("busy", busy, (gpu.utilisation or 0) / 100), ("memory", gpu.memory, gpu.memory_share)
    )  # fmt: skip


def _device(name: str, what: str, *bars: tuple[str, str, float]) -> Html:
    drawn = [
        el(
            "div",
            el("span", text),
            el("div", el("span", style=f"width:{min(max(share, 0), 1):.1%}"), cls="sv-progress", data_bar=kind),
        )
        for kind, text, share in bars
    ]
    return el("div", el("div", el("strong", name), el("span", what, cls="sv-dim")), *drawn, cls="sv-device")


def lost_by_kill(step: int | None, saved: int | None) -> str:
    """What a kill costs a training, as far as that is known."""
    if step is None:
        return "It has made no step yet: nothing but its start is lost."
    if saved is None:
        return f"It is at step {step:,} and has saved no checkpoint: all of it is lost."
    if step <= saved:
        return f"Its last checkpoint is of step {saved:,}, where it is now: nothing is lost but the end of its log."
    return f"It is at step {step:,} and its last checkpoint is of step {saved:,}: {step - saved:,} steps are lost."
