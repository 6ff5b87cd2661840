"""Puts the listener into a fragment: from then on the server's revisions rerun that fragment and nothing else."""

from pathlib import Path
from urllib.parse import quote

import streamlit as st

from dashboard.watch import LIST, PATH

SCRIPT = Path(__file__).with_name("frontend") / "push.js"


def listen(
    key: str, run: str = LIST, *, seen: int, every_ms: int = 100, only_visible: bool = False, links: bool = False
) -> str | None:
    """Mount the listener for `run` (or the list) in the fragment that calls this; `seen` is the revision it draws.

    With `only_visible` the fragment is redrawn only while it is on the screen, or near it. Returns the name of the run whose
    link was clicked, when `links` is on.
    """
    component = st.components.v2.component("seqsetvae.push", js=SCRIPT.read_text())
    url = PATH.lstrip("/") + (f"?run={quote(run)}" if run != LIST else "")
    data = {"url": url, "seen": seen, "every": every_ms, "onlyVisible": only_visible, "links": links}
    with st.container(key=f"push-{key}"):
        result = component(key=f"listen-{key}", data=data, height=1, on_revision_change=_nothing, on_open_change=_nothing)
    return result.open


def _nothing() -> None:
    """The rerun is all that is wanted."""
