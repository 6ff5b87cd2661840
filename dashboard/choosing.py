"""Which run a page is about: the one in its address, else the one looked at last, else the newest."""

import streamlit as st

from dashboard.service import service

LAST = "last run"


def choose_run() -> str | None:
    """A select box over all runs; None where there is none. The address always names what is shown."""
    names = service().summaries.names()
    asked = st.query_params.get("run") or st.session_state.get(LAST)
    if asked is None and names:
        asked = names[0]
    if asked is None:
        return None
    if st.query_params.get("run") != asked:
        st.query_params["run"] = asked
    st.session_state[LAST] = asked
    st.session_state["chosen"] = asked
    st.selectbox("Run", names if asked in names else [asked, *names], key="chosen", on_change=_follow, width=440)
    return asked


def _follow() -> None:
    st.query_params["run"] = st.session_state["chosen"]
