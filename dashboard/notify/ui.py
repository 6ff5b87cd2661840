"""The bell on every page: notices as they come, the newest of them, and whether the browser may show them too."""

import streamlit as st

from dashboard.components import javascript
from dashboard.notify.watch import KEY
from dashboard.runs.watch import PATH
from dashboard.service import service


def bell() -> str | None:
    """Mount the bell. Returns the name of a run whose notice was just clicked.

    It keeps one connection for all pages of a browser, and draws itself: nothing runs here when a notice comes.
    """
    component = st.components.v2.component("seqsetvae.notices", js=javascript("notify.js"))
    options = service().options
    who = st.user.get("email") or st.user.get("name") if options.auth == "oidc" else None
    data = {"url": f"{PATH.lstrip('/')}?run={KEY}", "signOut": options.auth in ("token", "oidc"), "who": who}
    with st.container(key="push-notices"):
        result = component(key="notices", data=data, height=1, on_open_change=_nothing)
    return result.open


def _nothing() -> None:
    """The rerun is all that is wanted."""


def require_sign_in() -> None:
    """Stop the page of who is not signed in. The guard around the server lets nobody else in; this is the second lock."""
    if service().options.auth != "oidc" or st.user.is_logged_in:
        return
    st.title("Sign in")
    st.write("The training runs behind this page are for people who are signed in.")
    if st.button("Sign in", type="primary"):
        st.login()
    st.stop()
