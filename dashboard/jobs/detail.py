"""One job: its state, what can be done with it, its command, and what it prints."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboard.checkpoints.listing import list_folder
from dashboard.components import listen
from dashboard.jobs.form_start import reuse
from dashboard.jobs.log import log_box, tail
from dashboard.jobs.record import ACTIVE, ENDED, KEY, Job, JobState
from dashboard.jobs.view import about, lost_by_kill, told
from dashboard.runs.loading import resolve_run
from dashboard.service import service
from dashboard.widgets import banner, el
from shared.errors import InputError
from shared.reader import read_status

LIVE = "app_pages/live.py"


def detail(name: str) -> None:
    """The view of a job. The caller follows its state; its log follows itself."""
    hub = service()
    if st.button("New training", key="back", type="tertiary", icon=":material/arrow_back:"):
        del st.query_params["job"]
        st.rerun()
    try:
        job = hub.jobs.get(name)
    except InputError as error:
        gone = "It may have been taken off the list; its run, if it has one, stays."
        st.html(banner("warning", "This job is not here.", f"{error}.", gone))
        return
    st.html(about(job))
    state = told(job, hub.jobs.places().reasons.get(job.id) if job.state is JobState.QUEUED else None)
    if job.host != hub.jobs.host and job.state not in ENDED:
        there = "It can be stopped from a dashboard there; what is shown of it here is what that one last wrote."
        state = banner("info", f"Belongs to {job.host}.", there)
    if state is not None:
        st.html(el("div", state, cls="sv-banners"))
    actions(job)
    st.code(job.command, language="bash", wrap_lines=True)
    printed(job)


@st.fragment
def printed(job: Job) -> None:
    """The end of the log, as it grows."""
    folder = service().jobs.folder
    listen("log", KEY, watch=f"log {job.id}", seen=folder.printed(job.id), every_ms=500)
    path = folder.file(job.id, ".log")
    st.html(el("h3", "Log", el("small", f"the end of {path}"), cls="sv-step"))
    if job.state is JobState.QUEUED:
        waiting = "It prints once it runs."
    else:
        waiting = "Nothing printed yet. Loading PyTorch takes some seconds." if job.state in ACTIVE else "It printed nothing."
    log_box(job.id, tail(path), waiting)


def actions(job: Job) -> None:
    """What can be done with it in its state."""
    hub = service()
    with st.container(horizontal=True, vertical_alignment="center", key="job-actions"):
        if job.run is not None:
            st.page_link(LIVE, label="Open its run", icon=":material/monitoring:", query_params={"run": job.run})
        if not hub.jobs.allowed:
            return
        if job.state in ACTIVE and job.host == hub.jobs.host:
            gently = "As Ctrl-C does: training finishes its step and saves."
            if st.button("Stop", key="stop", icon=":material/stop_circle:", disabled=job.stopping, help=gently):
                attempt(lambda: hub.jobs.stop(job.id))
            if st.button("Kill", key="kill", icon=":material/dangerous:", help="Ends its processes at once. Asks first."):
                confirm_kill(job)
        if job.state is JobState.QUEUED and st.button("Take out of the queue", key="cancel", icon=":material/close:"):
            attempt(lambda: hub.jobs.cancel(job.id))
        if job.state in ENDED:
            ended_actions(job)


def ended_actions(job: Job) -> None:
    """For a job that is over."""
    hub = service()
    stopped = job.state in (JobState.INTERRUPTED, JobState.KILLED, JobState.FAILED, JobState.LOST)
    resumable = job.run if stopped and job.words[0] in ("train", "resume") else None
    if resumable and st.button("Resume its run", key="resume", icon=":material/resume:", type="primary"):
        st.query_params.clear()
        st.query_params["resume"] = resumable
        st.rerun()
    if job.words[0] in ("train", "preflight") and st.button("Change and run again", key="again", icon=":material/edit:"):
        reuse(job.words)
        st.query_params.clear()
        st.rerun()
    if st.button(
        "Remove from list", key="forget", icon=":material/delete:", help="Deletes this entry and its log. The run stays."
    ):
        attempt(lambda: hub.jobs.forget(job.id))


def attempt(do: Callable[[], None]) -> None:
    """Do it and draw the page anew, or say why it could not be done."""
    try:
        do()
    except InputError as error:
        st.html(banner("alarm", "Not done.", str(error)))
    except OSError as error:
        st.html(banner("alarm", "Not done.", f"{error.filename}: {error.strerror}", "Free the disk or mend the folder."))
    else:
        st.rerun()


@st.dialog("Kill this job?")
def confirm_kill(job: Job) -> None:
    """Says what is lost, and asks."""
    st.html(
        el(
            "p",
            "Its processes end at once, without saving. ",
            lost_by_kill(*progress_of(service().runs, job)) if job.run else "What it has not written yet is lost.",
        )
    )
    st.html(el("p", "Stop lets training finish its step and save first.", cls="sv-dim"))
    with st.container(horizontal=True):
        if st.button("Kill", key="really-kill", type="primary", icon=":material/dangerous:"):
            attempt(lambda: service().jobs.kill(job.id))
        if st.button("Let it run", key="let-run"):
            st.rerun()


def progress_of(runs: Path, job: Job) -> tuple[int | None, int | None]:
    """The step of a job's run, and that of its newest checkpoint; None for what there is not."""
    layout = resolve_run(runs, job.run or "")
    if layout is None:
        return None, None
    beat = read_status(layout).heartbeat
    saved = [one.sidecar.step for one in list_folder(layout).checkpoints if one.sidecar is not None]
    return beat.step if beat is not None and beat.step else None, max(saved, default=None)
