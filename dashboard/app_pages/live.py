"""One run, live: state, verdict, posterior, losses, outcome, pace and events. Each part is redrawn by itself."""

from dataclasses import dataclass

import streamlit as st

from dashboard.charts import Look, Scale
from dashboard.formats import number
from dashboard.landing import gone, landing, waiting
from dashboard.loading import Snapshot
from dashboard.panels import DECODER, LABELS, LOSSES, OUTCOME, PACE, POSTERIOR, Panel, figure, latest
from dashboard.pushing import listen
from dashboard.service import service
from dashboard.verdicts import verdicts
from dashboard.widgets import banner, el, event_table, header, join, state_banner, verdict_banner

SCALES: dict[str, Scale] = {"Auto": "auto", "Linear": "linear", "Log": "log"}
PLOTLY = {"displaylogo": False, "responsive": True, "scrollZoom": False, "displayModeBar": "hover",
          "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]}  # fmt: skip


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


def choose() -> str | None:
    """The run of the address, or the newest; the address always names what is shown."""
    names = [run.name for run in service().summaries.all()]
    asked = st.query_params.get("run")
    if asked is None and names:
        asked = names[0]
        st.query_params["run"] = asked
    if asked is not None and asked not in names:
        names.insert(0, asked)
    return _select(names, asked) if names and asked is not None else None


def _select(names: list[str], asked: str) -> str:
    def follow() -> None:
        st.query_params["run"] = st.session_state["chosen"]

    st.session_state["chosen"] = asked
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.selectbox("Run", names, key="chosen", on_change=follow, width=520)
        st.segmented_control(
            "Vertical axes", list(SCALES), default="Auto", required=True, key="scale",
            help="Auto takes a logarithmic axis where values span so much that a linear one shows only the peak. "
            "Drag to zoom, double-click to zoom out; zoom is kept while the run goes on.",
        )  # fmt: skip
    return asked


@st.fragment
def head(name: str) -> None:
    """State, newest figures and verdict: redrawn at once."""
    hub = service()
    listen("head", name, seen=hub.revisions.current(name))
    snapshot = hub.store.snapshot(name)
    started = snapshot is not None and len(snapshot.steps) > 0
    if started != st.session_state.get("started", started):
        st.rerun()
    st.session_state["started"] = started
    if snapshot is None:
        st.html(gone(name, hub.runs))
        return
    st.html(join([header(snapshot), el("div", *banners(snapshot), cls="sv-banners")]))
    if not started and snapshot.status.health.value in ("created", "running"):
        st.html(waiting())


def banners(snapshot: Snapshot) -> list:
    """What is wrong with the run, then the verdicts, then what could not be read."""
    state = state_banner(snapshot.status)
    found = [state] if state else []
    if len(snapshot.steps):
        found += [verdict_banner(verdict) for verdict in verdicts(snapshot)]
    if snapshot.problems:
        more = f" (and {len(snapshot.problems) - 3} more)" if len(snapshot.problems) > 3 else ""
        found.append(
            banner("warning", "Some lines of the log cannot be read.", "; ".join(snapshot.problems[:3]) + more + ".",
                   "All other lines are shown. Lines like these are left by a full disk or an edit by hand.")
        )  # fmt: skip
    return found


@st.fragment
def show(part: Section, name: str, look: Look) -> None:
    """A group of charts: redrawn about once a second, and only while it is near the screen."""
    hub = service()
    listen(part.key, name, seen=hub.revisions.current(name), every_ms=1000, only_visible=True)
    snapshot = hub.store.snapshot(name)
    if snapshot is None:
        return
    st.html(el("h2", part.title, el("small", part.subtitle), cls="sv-section"))
    for start in range(0, len(part.panels), part.columns):
        for column, panel in zip(st.columns(part.columns), part.panels[start : start + part.columns], strict=False):
            with column:
                card(snapshot, panel, look)


def card(snapshot: Snapshot, panel: Panel, look: Look) -> None:
    """One chart with its title, newest value and reading guide."""
    with st.container(border=True, key=f"card-{panel.metric}"):
        role = panel.sources[-1]
        newest = f"{LABELS[role]} {number(latest(snapshot, role, panel.metric))} {panel.info.unit}"
        st.markdown(f"**{panel.info.label}** :gray[:small[{newest}]]", help=panel.help)
        picture = snapshot.once((panel.metric, look), lambda: figure(snapshot, panel, look))
        st.plotly_chart(picture, theme=None, key=f"chart-{panel.metric}", config=PLOTLY, alt=f"{panel.info.label} over steps")


@st.fragment
def events(name: str) -> None:
    """What the run reported, newest first."""
    hub = service()
    listen("events", name, seen=hub.revisions.current(name), every_ms=1000, only_visible=True)
    snapshot = hub.store.snapshot(name)
    if snapshot is not None and snapshot.events:
        st.html(el("h2", "Events", el("small", "newest first"), cls="sv-section"))
        st.html(event_table(snapshot.events))


def main() -> None:
    """The page."""
    name = choose()
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
