"""The list of runs, newest first. It follows the folder: a new run shows up by itself."""

from pathlib import Path

import streamlit as st

from dashboard.components import listen
from dashboard.landing import landing
from dashboard.service import service
from dashboard.watch import LIST
from dashboard.widgets import el, run_table

LIVE = Path(__file__).with_name("live.py")
SHOWN = 200


@st.fragment
def show() -> None:
    """The table, redrawn at most once a second."""
    hub = service()
    revision = hub.revisions.current(LIST)
    opened = listen("list", seen=revision, every_ms=1000, links=True)
    if opened:
        st.switch_page(str(LIVE), query_params={"run": opened})
    runs = hub.summaries.all()
    if not runs:
        st.html(landing(hub.runs))
        return
    limit = None if st.session_state.get("all_runs") else SHOWN
    st.html(el("h1", "Runs", el("small", f"{len(runs):,} in {hub.runs}"), cls="sv-section"))
    st.html(run_table(runs[:limit]))
    if limit and len(runs) > limit:
        st.checkbox(f"Show all {len(runs):,} runs", key="all_runs")


show()
