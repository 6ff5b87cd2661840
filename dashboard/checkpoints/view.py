"""What the parts of the Checkpoints page share: the address, the files it names, and the slow readings of this process."""

from functools import cache
from typing import Any

import streamlit as st

from dashboard.checkpoints.hash import Check, check
from dashboard.checkpoints.inside import Inside, Shelf
from dashboard.checkpoints.listing import Checkpoint, Folder, list_folder
from dashboard.checkpoints.values import Source
from dashboard.checkpoints.work import KEY, CheckpointWork
from dashboard.components import javascript, listen
from dashboard.live.header import GONE
from dashboard.runs.loading import folder_token, resolve_run
from dashboard.service import SNAPSHOT_FOLDERS, service
from shared.errors import InputError
from shared.layout import RunLayout

AT_ONCE_S = 0.3
"""How long a page waits for a reading before it says that it is under way."""


@cache
def work() -> CheckpointWork:
    """The background readings of this process; pages that listen to `KEY` hear of them."""
    return CheckpointWork(lambda: service().revisions.mark([KEY]))


@cache
def shelf() -> Shelf:
    """The checkpoints looked into in this process."""
    return Shelf()


def address() -> dict[str, str]:
    """What the page shows, as its address says it: run, checkpoint, and what that is compared with."""
    known = ("run", "checkpoint", "against", "against_run")
    return {name: st.query_params[name] for name in known if name in st.query_params}


def go(**changes: str | None) -> None:
    """Change the address; None takes a part of it away."""
    for name, value in changes.items():
        if value is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != value:
            st.query_params[name] = value


def folder_of(run: str) -> tuple[RunLayout, Folder] | None:
    """The checkpoints of a run; None where there is no such run."""
    layout = resolve_run(service().runs, run)
    return (layout, list_folder(layout)) if layout else None


def listen_to_folders(run: str) -> str | None:
    """Rerun the fragment when the run's checkpoints, or what was worked out from them, change; the link that was clicked."""
    layout = resolve_run(service().runs, run)
    made, analysed = (folder_token(layout.root, *names) if layout else GONE for names in (("checkpoints",), SNAPSHOT_FOLDERS))
    opened = listen("folder", run, watch="checkpoints", seen=made, links=True)
    listen("analysis", run, watch="snapshots", seen=analysed)
    return opened


def revision() -> int:
    """The state of the background readings, to be taken before their results are looked at."""
    return service().revisions.current(KEY)


def check_of(one: Checkpoint) -> Check:
    """How a file stands against its sidecar, as far as it has been read."""
    return check(one, work().known_hash(one.identity))


def look_into(one: Checkpoint | None) -> tuple[Inside | None, str | None]:
    """What is in a checkpoint, or why that cannot be said."""
    if one is None or one.identity is None:
        return None, None
    try:
        return shelf().look(one.path, one.identity), None
    except InputError as error:
        return None, str(error)


def source(one: Checkpoint) -> Source:
    """The file of a checkpoint that is there."""
    assert one.identity is not None
    return one.path, one.identity


def keep_ages() -> None:
    """Mount what keeps `3 min ago` true."""
    component: Any = st.components.v2.component("seqsetvae.ages", js=javascript("ages.js"))
    with st.container(key="push-ages"):
        component(key="ages", height=1)
