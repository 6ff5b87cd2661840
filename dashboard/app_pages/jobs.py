"""Training started from a form, and the queue of jobs: what runs on which device, what waits and why, what each printed."""

from functools import partial

import streamlit as st

from dashboard.components import listen
from dashboard.jobs.detail import attempt, detail
from dashboard.jobs.devices import KEY as DEVICES
from dashboard.jobs.form import form
from dashboard.jobs.record import ACTIVE, ENDED, KEY, Job, JobState
from dashboard.jobs.view import machine, row
from dashboard.service import service
from dashboard.widgets import banner, el

ENDED_SHOWN = 20
SHARES = (3, 2)
"""Of the width: the form or a job, beside devices and the queue."""


@st.fragment
def devices() -> None:
    """Memory and load, looked at every few seconds while this is on the screen."""
    seen = service().jobs.devices.look()
    st.html(el("h2", "Devices", el("small", "of the machine that the dashboard runs on"), cls="sv-section"))
    st.html(machine(seen))
    listen("devices", DEVICES, watch="load", seen=seen.token, every_ms=2000, only_visible=True)


@st.fragment
def queue() -> None:
    """All jobs, redrawn when one changes."""
    follow()
    listing()


@st.fragment
def one_job(name: str) -> None:
    """A job beside all others, redrawn together: one listener, one rerun."""
    follow()
    left, right = st.columns(SHARES, gap="large")
    with left:
        detail(name)
    with right, st.container(key="job-side"):
        devices()
        listing()


def follow() -> None:
    """Rerun this fragment when a job changes, and open the one that is clicked."""
    opened = listen("queue", KEY, watch="jobs", seen=service().jobs.folder.token, links=True)
    if opened:
        st.query_params["job"] = opened
        st.rerun()


def listing() -> None:
    """What runs, what waits in its order, what has ended."""
    hub = service()
    jobs, problems = hub.jobs.all()
    active = [job for job in jobs if job.state in ACTIVE]
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    ended = sorted((job for job in jobs if job.state in ENDED), key=lambda job: job.ended_at or job.created_at, reverse=True)
    st.html(el("h2", "Jobs", el("small", f"{len(active)} running, {len(queued)} queued"), cls="sv-section"))
    if not jobs:
        st.html(
            el(
                "p",
                "No job yet. What is started from here shows up in this list and goes on when the dashboard is closed.",
                cls="sv-dim",
            )
        )
    for job in active:
        st.html(row(job, hub.jobs.host))
    waiting(queued)
    if ended:
        past(ended)
    if problems:
        st.html(
            banner(
                "warning",
                "Some jobs cannot be read.",
                "; ".join(problems[:3]) + ".",
                "Delete those files, or restore them from a copy.",
            )
        )


def waiting(queued: list[Job]) -> None:
    """The queue, with buttons that change its order."""
    hub = service()
    reasons = hub.jobs.places().reasons if queued else {}
    for place, job in enumerate(queued):
        with st.container(horizontal=True, vertical_alignment="center", gap="xxsmall", key=f"queued-{job.id}"):
            st.html(row(job, hub.jobs.host, reasons.get(job.id)))
            if not hub.jobs.allowed:
                continue
            if len(queued) > 1 and small(job, "upward", "Sooner", disabled=place == 0):
                attempt(partial(hub.jobs.move, job.id, -1))
            if len(queued) > 1 and small(job, "downward", "Later", disabled=place == len(queued) - 1):
                attempt(partial(hub.jobs.move, job.id, 1))
            if small(job, "close", "Take out of the queue"):
                attempt(partial(hub.jobs.cancel, job.id))


def small(job: Job, what: str, help: str, *, disabled: bool = False) -> bool:
    """A button beside a queued job; its words are there for those who do not see the icon."""
    icon = f":material/{what if what == 'close' else f'arrow_{what}'}:"
    return st.button(help, icon=icon, key=f"only-icon-{what}-{job.id}", type="tertiary", help=help, disabled=disabled)


def past(ended: list[Job]) -> None:
    """What has ended, newest first."""
    hub = service()
    st.html(el("h3", "Ended", el("small", "newest first"), cls="sv-step"))
    for job in ended[:ENDED_SHOWN]:
        st.html(row(job, hub.jobs.host))
    if len(ended) > ENDED_SHOWN:
        st.html(el("p", f"and {len(ended) - ENDED_SHOWN} older ones", cls="sv-dim"))


def main() -> None:
    """The page."""
    job = st.query_params.get("job")
    if job:
        one_job(job)
        return
    left, right = st.columns(SHARES, gap="large")
    with left:
        form()
    with right, st.container(key="job-side"):
        devices()
        queue()


main()
