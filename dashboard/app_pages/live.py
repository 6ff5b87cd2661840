"""One run, live: state, verdict, posterior, losses, outcome, pace and events. Each part is redrawn by itself."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard.charts import Look, Scale
from dashboard.choosing import choose_run
from dashboard.components import chart_grid, listen
from dashboard.formats import number
from dashboard.header import GONE, head_token, header
from dashboard.landing import gone, landing, waiting
from dashboard.loading import Snapshot
from dashboard.panels import DECODER, LABELS, LOSSES, OUTCOME, PACE, POSTERIOR, Panel, figure, latest
from dashboard.service import service
from dashboard.widgets import el, event_table
from shared.reader import Health

SCALES: dict[str, Scale] = {"Auto": "auto", "Linear": "linear", "Log": "log"}


@dataclass(frozen=True)
class Section:
    """A group of charts under one heading."""

    key: str
    title: str
    subtitle: str
    panels: tuple[Panel, ...]
    columns: int


SECTIONS = (
    Section("posterior", "Posterior", "does the latent still carry the patient?", POSTERIOR, 2),
    Section("losses", "Losses", "training beside validation", LOSSES, 3),
    Section("outcome", "Outcome prediction", "on validation stays", OUTCOME, 3),
    Section("decoder", "Use of the latent", "on the probe set", DECODER, 2),
    Section("pace", "Schedule and pace", "what the optimizer was told, and what it did", PACE, 4),
)


def controls() -> str | None:
    """The run, and how its charts are drawn; None when there is no run."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        name = choose_run()
        if name is not None:
            st.segmented_control(
                "Vertical axes", list(SCALES), default="Auto", required=True, key="scale",
                help="Auto takes a logarithmic axis where values span so much that a linear one shows only the peak. "
                "Drag to zoom, double-click to zoom out; zoom is kept while the run goes on.",
            )  # fmt: skip
    return name


@st.fragment
def head(name: str) -> None:
    """State, newest figures and verdict. The figures are pushed straight to the page; this reruns when anything else changes."""
    hub = service()
    snapshot = hub.store.snapshot(name)
    listen("head", name, watch="head", seen=head_token(snapshot) if snapshot else GONE)
    started = snapshot is not None and snapshot.last_step is not None
    if started != st.session_state.setdefault("started", started):
        st.session_state["started"] = started
        st.rerun()
    if snapshot is None:
        st.html(gone(name, hub.runs))
        return
    st.html(header(snapshot))
    if not started and snapshot.status.health in (Health.CREATED, Health.RUNNING):
        st.html(waiting())


@st.fragment
def show(part: Section, name: str, look: Look) -> None:
    """A group of charts: redrawn every two seconds at most, and only while it is near the screen."""
    hub = service()
    listen(part.key, name, seen=hub.revisions.current(name), every_ms=2000, only_visible=True)
    snapshot = hub.store.snapshot(name)
    if snapshot is None:
        return
    st.html(el("h2", part.title, el("small", part.subtitle), cls="sv-section"))
    chart_grid(part.key, [card(snapshot, panel, look) for panel in part.panels], part.columns)


def card(snapshot: Snapshot, panel: Panel, look: Look) -> dict[str, Any]:
    """One chart with its title, newest value and reading guide; made once for all who look at this revision."""

    def make() -> dict[str, Any]:
        role = panel.sources[-1]
        value = latest(snapshot, role, panel.metric)
        return {
            "key": panel.metric,
            "title": panel.info.label,
            "newest": f"{LABELS[role]} {number(value)} {panel.info.unit}" if value is not None else "",
            "help": panel.help,
            "revision": f"{snapshot.status.name} {snapshot.revision} {look}",
            "figure": figure(snapshot, panel, look).to_json(validate=False),
        }

    return snapshot.once((panel.metric, look), make)


@st.fragment
def events(name: str) -> None:
    """What the run reported, newest first."""
    hub = service()
    listen("events", name, seen=hub.revisions.current(name), every_ms=2000, only_visible=True)
    snapshot = hub.store.snapshot(name)
    if snapshot is not None and snapshot.events:
        st.html(el("h2", "Events", el("small", "newest first"), cls="sv-section"))
        st.html(event_table(snapshot.events))


def main() -> None:
    """The page."""
    name = controls()
    if name is None:
        listen_for_first_run()
        return
    head(name)
    if st.session_state.get("started"):
        look = Look(dark=st.context.theme.type == "dark", scale=SCALES[st.session_state.get("scale") or "Auto"])
        for part in SECTIONS:
            show(part, name, look)
    events(name)


@st.fragment
def listen_for_first_run() -> None:
    """No run at all: say how to start one, and go on when one appears."""
    hub = service()
    listen("first", seen=hub.revisions.current(""))
    if hub.summaries.all():
        st.rerun()
    st.html(landing(hub.runs))


main()
