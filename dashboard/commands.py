"""What a page offers to run: the exact command line to copy, and a button that starts it where jobs are allowed."""

from collections.abc import Sequence

import streamlit as st

from dashboard.components import listen
from dashboard.jobs.record import ENDED, KEY, WIDTH, Job, command_line
from dashboard.jobs.view import badge
from dashboard.service import service
from dashboard.widgets import banner, el
from shared.errors import InputError

PAGE = "app_pages/jobs.py"


def offer(label: str, words: Sequence[str], *, key: str, help: str = "") -> None:
    """Show `python -m backend WORDS`; with --allow-jobs also a button `label` that puts it into the queue of jobs.

    Once it is queued a link to the job stands in the place of the button, until that has ended or the words are others.
    """
    jobs = service().jobs
    st.code(command_line(words, width=WIDTH), language="bash", wrap_lines=True)
    if not jobs.allowed:
        st.caption("Copy it into a terminal. To start it from here, run the dashboard with `--allow-jobs`.")
        return
    job = _offered(key, words)
    free = job is None or job.state in ENDED
    if free and st.button(label, key=f"offer-{key}", help=help or None, icon=":material/play_arrow:"):
        job = _submit(key, words)
    if job is not None:
        followed(job.id, key)


@st.fragment
def followed(name: str, key: str) -> None:
    """The state of a job that was started from here, as it changes, and the way to its log."""
    jobs = service().jobs
    listen(f"offer-{key}", KEY, watch="jobs", seen=jobs.folder.token)
    with st.container(horizontal=True, vertical_alignment="center"):
        try:
            job = jobs.get(name)
        except InputError:
            st.html(el("p", "This job was taken off the list.", cls="sv-dim"))
            return
        st.html(badge(job), width="content")
        st.page_link(PAGE, label="Follow it in Jobs", icon=":material/arrow_forward:", query_params={"job": job.id})


def _offered(key: str, words: Sequence[str]) -> Job | None:
    """The job that this offer became in this session, as it stands."""
    known = st.session_state.get(f"offered {key}")
    if known is None or known[0] != list(words):
        return None
    try:
        return service().jobs.get(known[1])
    except InputError:
        return None


def _submit(key: str, words: Sequence[str]) -> Job | None:
    jobs = service().jobs
    try:
        job = jobs.submit(words, jobs.default_device(words[0]))
    except InputError as error:
        st.html(banner("alarm", "Not started.", str(error)))
        return None
    except OSError as error:
        st.html(banner("alarm", "Not started.", f"{error.filename}: {error.strerror}", "Free the disk or mend the folder."))
        return None
    st.session_state[f"offered {key}"] = (list(words), job.id)
    return job
