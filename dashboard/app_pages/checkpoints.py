"""Checkpoints of one run: what lies in its folder, what is in each file, how two differ, and where to go on from one.

Files are read without unpickling: nothing in them can run.
"""

from urllib.parse import parse_qsl

import streamlit as st

from dashboard.charts import Look
from dashboard.checkpoints.hash import unchecked
from dashboard.checkpoints.listing import Folder
from dashboard.checkpoints.sections import compare_with, hyperparameters, resume_and_analyse, tensors
from dashboard.checkpoints.view import (
    address,
    check_of,
    folder_of,
    go,
    keep_ages,
    listen_to_folders,
    look_into,
    revision,
    source,
    work,
)
from dashboard.checkpoints.widgets import checkpoint_table, details_card, empty, leftovers, plural, warnings
from dashboard.checkpoints.work import KEY
from dashboard.choosing import choose_run
from dashboard.components import listen
from dashboard.formats import size
from dashboard.landing import gone, landing
from dashboard.service import service
from dashboard.widgets import banner, el
from shared.layout import RunLayout
from shared.reader import Health, read_status

PEEKED = 20
"""Files without a sidecar that are opened for their step; more would keep the page waiting."""


def main() -> None:
    """The page."""
    run = choose_run()
    if run is None:
        wait_for_first_run()
        return
    if st.session_state.setdefault("checkpoints of", run) != run:
        st.session_state["checkpoints of"] = run
        go(checkpoint=None, against=None, against_run=None)
    content(run)
    keep_ages()


@st.fragment
def content(run: str) -> None:
    """Everything below the choice of the run: drawn again when a checkpoint appears, goes or is replaced, and as reading gets on.

    One fragment listens for all: of several that are wanted at the same moment, Streamlit may leave some out.
    """
    seen = revision()
    go(**dict(parse_qsl(listen_to_folders(run) or "")))
    found = folder_of(run)
    if found is None:
        st.html(gone(run, service().runs))
        return
    layout, here = found
    if here.checkpoints and "checkpoint" not in st.query_params:
        go(checkpoint=here.checkpoints[0].name)
    folder(layout, here)
    if here.checkpoints:
        chosen = st.query_params["checkpoint"]
        look = Look(dark=st.context.theme.type == "dark")
        details(layout, here, chosen)
        compare_with(run, chosen, look)
        tensors(run, chosen, look)
        hyperparameters(here.named(chosen))
    if work().busy or revision() != seen:
        listen("work", KEY, seen=seen, every_ms=300)


@st.fragment
def wait_for_first_run() -> None:
    """No run at all: say how to start one, and go on when one appears."""
    hub = service()
    listen("first", seen=hub.revisions.current(""))
    if hub.summaries.names():
        st.rerun()
    st.html(landing(hub.runs))


def folder(layout: RunLayout, here: Folder) -> None:
    """The list of checkpoints, or why there is none."""
    status = read_status(layout)
    if here.problem:
        st.html(banner("alarm", "The checkpoints cannot be listed.", here.problem))
    elif not here.checkpoints:
        st.html(empty(status))
    else:
        _table(here)
    left = leftovers(here.leftovers, status.health is Health.RUNNING)
    if left:
        st.html(left)


def _table(here: Folder) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        total = size(sum(one.bytes or 0 for one in {one.identity: one for one in here.checkpoints}.values()))
        st.html(
            el(
                "h2",
                "Checkpoints",
                el("small", f"{plural(len(here.checkpoints), 'file')}, {total} on the disk, newest first"),
                cls="sv-section",
            )
        )
        to_check = unchecked(here.checkpoints, work())
        amount = size(sum(one.bytes or 0 for one in to_check))
        told = any(one.fault is None for one in here.checkpoints)
        label = f"Check hashes ({amount})" if to_check else "Hashes checked" if told else "No hash to check"
        if st.button(
            label, disabled=not to_check, icon=":material/fingerprint:", key="check-hashes",
            help="Reads every file wholly, in the background, and compares its sha256 with the sidecar's. The size alone is compared "
            "whenever this page is shown.",
        ):  # fmt: skip
            for one in to_check:
                work().ask_hash(*source(one))
            st.rerun(scope="fragment")
    bare = [one for one in here.checkpoints if one.sidecar is None and one.identity is not None][:PEEKED]
    peeks = {one.name: inside for one in bare if (inside := look_into(one)[0]) is not None}
    checks = {one.name: check_of(one) for one in here.checkpoints}
    st.html(checkpoint_table(here.checkpoints, checks, peeks, address()))


def details(layout: RunLayout, here: Folder, chosen: str) -> None:
    """One checkpoint: its figures, what is wrong with it, and what can be done from it."""
    one = here.named(chosen)
    st.html(el("h2", chosen, el("small", "a"), cls="sv-section sv-ckpt-name"))
    if one is None:
        st.html(_missing(here, chosen))
        return
    inside, problem = look_into(one)
    state = check_of(one)
    st.html(details_card(one, state, inside))
    if problem:
        st.html(banner("alarm", "This file cannot be read.", problem))
    st.html(warnings(state, inside))
    if inside is not None:
        resume_and_analyse(layout, one, inside)


def _missing(here: Folder, chosen: str) -> str:
    newest = here.checkpoints[0].name if here.checkpoints else None
    words = f"There is no {chosen} in this run's checkpoints. The run keeps its two best and three earlier ones and removes the others."
    return banner(
        "info", "This checkpoint is not here.", words, f"Choose another in the list, such as {newest}." if newest else None
    )


main()
