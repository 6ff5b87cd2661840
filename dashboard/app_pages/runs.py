"""The list of runs. It follows the folder: a new run shows up by itself, and what a run reports is in its row a moment later."""

from pathlib import Path

import streamlit as st

from dashboard.components import listen
from dashboard.landing import landing
from dashboard.overview.dialogs import open_dialog
from dashboard.overview.page import run_list
from dashboard.runs.watch import LIST
from dashboard.service import service

HERE = Path(__file__).parent
PAGES = ("live", "compare")


@st.fragment
def show() -> None:
    """The list, or how to get a first run. Rows go from the server to the browser by themselves; this runs only when asked."""
    hub = service()
    if hub.summaries.is_empty():
        listen("list", seen=hub.revisions.current(LIST), every_ms=200)
        st.html(landing(hub.runs))
        return
    asked = run_list("runs")
    if asked.open and asked.open["page"] in PAGES:
        st.switch_page(str(HERE / f"{asked.open['page']}.py"), query_params={"run": asked.open["runs"]})
    if asked.act:
        open_dialog(asked.act["what"], asked.act["runs"])


show()
