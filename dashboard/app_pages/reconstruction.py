"""What a run's decoder makes of its fixed probe patients: errors by variable, over training and time, patient by patient.

All that is chosen stands in the address: `run`, `source` (none: the newest snapshot, followed), `variable`s, `of` and `patient`.
"""

import streamlit as st

from dashboard.checkpoints.listing import file_names
from dashboard.choosing import choose_run
from dashboard.commands import offer
from dashboard.components import listen
from dashboard.landing import gone, landing
from dashboard.live.header import GONE, strip
from dashboard.reconstruction import sections
from dashboard.reconstruction.choices import choose_source
from dashboard.reconstruction.events import Source, read_events, read_presence, sources
from dashboard.reconstruction.words import nothing_decoded, unreadable, waiting
from dashboard.runs.loading import folder_token, resolve_run
from dashboard.service import SNAPSHOT_FOLDERS, service
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_status

DRAWN = "reconstruction drawn"


def token(name: str) -> str:
    """Changes with any snapshot of the run."""
    layout = resolve_run(service().runs, name)
    return folder_token(layout.root, *SNAPSHOT_FOLDERS) if layout else GONE


@st.fragment
def follow(name: str) -> None:
    """Draw the page anew when the run has another snapshot; charts that stay as they are, the browser leaves alone."""
    seen = token(name)
    listen("reconstruction", name, watch="snapshots", seen=seen, every_ms=1000)
    if st.session_state.get(DRAWN) != (name, seen):
        st.rerun()


@st.fragment
def follow_list() -> None:
    """No run at all: go on when one appears."""
    hub = service()
    listen("first", seen=hub.revisions.current(""))
    if hub.summaries.names():
        st.rerun()
    st.html(landing(hub.runs))


def main() -> None:
    """The page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = choose_run()
        layout = resolve_run(service().runs, name) if name is not None else None
        found = sources(layout) if layout else []
        source = choose_source(found)
    if name is None:
        follow_list()
        return
    st.session_state[DRAWN] = (name, token(name))
    follow(name)
    wrong = strip(service().store.snapshot(name))
    if wrong:
        st.html(wrong)
    if layout is None:
        st.html(gone(name, service().runs))
    elif source is None:
        none_yet(layout)
    else:
        snapshot(layout, found, source)


def none_yet(layout: RunLayout) -> None:
    """Say when the first snapshot is due, or how to make one from a checkpoint."""
    st.html(waiting(read_status(layout)))
    checkpoints = file_names(layout)
    if checkpoints:
        offer("Look into it", ["visualize", str(layout.checkpoints / checkpoints[-1])], key="reconstruct-checkpoint")


def snapshot(layout: RunLayout, found: list[Source], source: Source) -> None:
    """Everything about one snapshot."""
    try:
        events = read_events(source.path)
    except InputError as error:
        st.html(unreadable(str(error)))
        return
    if events.frame.empty:
        st.html(nothing_decoded())
        return
    presence, problems = None, []
    try:
        presence = read_presence(source.presence)
    except InputError as error:
        problems.append(str(error))
    shown = sections.Shown(layout, source, events, presence)
    sections.summary(shown, problems)
    sections.by_variable(shown)
    sections.over_training(shown, found)
    sections.errors(shown)
    sections.patients(shown)
    sections.presence(shown)


main()
