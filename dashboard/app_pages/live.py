"""One run, live: state, verdict, posterior, losses, outcome, pace, events and console. Each part is redrawn by itself."""

import streamlit as st

from dashboard.charts import Look, Scale
from dashboard.choosing import choose_run
from dashboard.commands import offer
from dashboard.components import chart_grid, listen
from dashboard.jobs.log import log_box, tail
from dashboard.landing import gone, landing, waiting
from dashboard.live.cards import SECTIONS, Section, cards, others, split
from dashboard.live.header import GONE, head_token, header
from dashboard.live.panels import View
from dashboard.runs.loading import folder_token
from dashboard.runs.verdicts import remedies
from dashboard.service import service
from dashboard.widgets import IMPORTED, el, event_table, is_imported, plain
from shared.reader import Health

SCALES: dict[Scale, str] = {"auto": "Auto", "linear": "Linear", "log": "Log"}
AXES = {"step": "Step", "epoch": "Epoch", "time": "Time"}
ROW_PX = 312
"""Height of a row of charts, kept free until they are drawn."""
SPANS = {0: "Off", 10: "10", 100: "100", 1000: "1,000", 10_000: "10,000"}


def controls() -> None:
    """How the charts are drawn, all of it in the address; below what the run is, one line that scrolls on phones."""
    with st.container(
        horizontal=True, vertical_alignment="bottom", horizontal_alignment="right", gap="medium", key="live-drawing"
    ):
        st.segmented_control(
            "Along", list(AXES), default="step", required=True, key="axis", format_func=AXES.__getitem__, bind="query-params",
            help="What runs along the charts. Drag in a chart to zoom all of them, double-click to zoom out; what you zoom into is "
            "drawn at full resolution, and stays while the run goes on.",
        )  # fmt: skip
        st.segmented_control(
            "Smoothing", list(SPANS), default=0, required=True, key="smooth", format_func=SPANS.__getitem__, bind="query-params",
            help="Exponential moving average over about so many steps, whatever the zoom. The raw curve stays behind it, faint. "
            "Evaluations are never smoothed.",
        )  # fmt: skip
        st.segmented_control(
            "Vertical axes", list(SCALES), default="auto", required=True, key="scale", format_func=SCALES.__getitem__, bind="query-params",
            help="Auto takes a logarithmic axis where values span so much that a linear one shows only the peak.",
        )  # fmt: skip


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
    found = remedies(snapshot.verdicts)
    if found and is_imported(snapshot.status):
        why = f"No remedy can be started here: this run was {IMPORTED}. The way out is for its own program to take."
        st.html(el("p", why, cls="sv-dim", data_state="imported"))
    elif found:
        cure(name, str(snapshot.status.layout.root), found)


def cure(name: str, root: str, found: list[str]) -> None:
    """The way out of a collapse: a new run from before its onset, with a remedy."""
    with st.expander("Resume with a remedy", icon=":material/healing:"):
        st.markdown("Goes back to the last checkpoint before the onset and on from there with the remedy, as a new run; this one stays "
                    "as it is. The remedies below are in the order of how often they helped in our measurements.")  # fmt: skip
        chosen = st.radio("Remedy", found, horizontal=True, key=f"remedy {name}", format_func=plain)
        offer("Resume with this remedy", ["resume", root, "--remedy", chosen], key=f"cure {name}")


@st.fragment
def show(part: Section, name: str, look: Look, view: View) -> None:
    """A group of charts: redrawn every two seconds at most, and only while it is near the screen; before that not drawn at all."""
    snapshot = service().store.snapshot(name)
    token = snapshot.curves_token if snapshot else GONE
    near = st.session_state.setdefault("near the screen", set())
    waits = part is not SECTIONS[0] and (part.key, name) not in near
    listen(part.key, name, watch="curves", seen="" if waits else token, every_ms=2000, only_visible=True)
    if snapshot is None:
        return
    st.html(el("h2", part.title, el("small", part.subtitle), cls="sv-section"))
    if waits:
        near.add((part.key, name))  # the listener asks for it when it comes near
        st.html(el("div", style=f"height: {ROW_PX * -(-max(len(part.panels), 1) // part.columns)}px"))
        return
    drawn, missing = split(snapshot, part)
    if drawn or not part.panels:
        chart_grid(part.key, cards(snapshot, part, look, view), min(part.columns, len(drawn) or 1))
    if missing:
        st.html(el("p", "Not recorded by this run: ", ", ".join(panel.info.label for panel in missing), ".", cls="sv-dim"))


@st.fragment
def events(name: str) -> None:
    """What the run reported, newest first."""
    hub = service()
    snapshot = hub.store.snapshot(name)
    seen = folder_token(snapshot.status.layout.root, "events.jsonl") if snapshot else GONE
    listen("events", name, watch="events", seen=seen, only_visible=True)
    if snapshot is not None and snapshot.events:
        st.html(el("h2", "Events", el("small", "newest first"), cls="sv-section"))
        st.html(event_table(snapshot.events))


@st.fragment
def console(name: str) -> None:
    """The end of what the training process printed."""
    snapshot = service().store.snapshot(name)
    if snapshot is None:
        return
    layout = snapshot.status.layout
    listen(
        "console", name, watch="console", seen=folder_token(layout.root, layout.console.name), every_ms=500, only_visible=True
    )
    st.html(el("h2", "Console", el("small", f"the end of {layout.console.name}"), cls="sv-section"))
    log_box(
        "console", tail(layout.console), f"No {layout.console.name} in this run: its program printed nothing, or kept no log."
    )


def main() -> None:
    """The page."""
    name = choose_run()
    if name is None:
        listen_for_first_run()
        return
    head(name)
    controls()
    state = st.session_state
    if state.get("started"):
        look = Look(dark=st.context.theme.type == "dark", scale=state.get("scale") or "auto")
        view = View(axis=state.get("axis") or "step", span=float(state.get("smooth") or 0))
        snapshot = service().store.snapshot(name)
        own = others(snapshot) if snapshot else None
        for part in (*SECTIONS, *([own] if own else ())):
            show(part, name, look, view)
    events(name)
    console(name)


@st.fragment
def listen_for_first_run() -> None:
    """No run at all: say how to start one, and go on when one appears."""
    hub = service()
    listen("first", seen=hub.revisions.current(""))
    if hub.summaries.names():
        st.rerun()
    st.html(landing(hub.runs))


main()
