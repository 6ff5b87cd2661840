"""The list of runs as a component: its table lives in the browser, which asks `overview.Rows` for what changed."""

from functools import cache
from typing import Any

import streamlit as st

from dashboard.components import FRONTEND
from dashboard.overview.rows import PATH as ROWS
from dashboard.runs.watch import PATH as PUSH

PARTS = ("query", "cells", "table", "bar")
"""Scripts of the component beside its main one; together they are one module."""
HELP = """Words are looked for in names, data sets, tags, notes and verdicts; * stands for anything.
state:running · tag:sweep · verdict:alarm · data:physionet
auroc>0.8 · units<4 · step>1000 · progress<50 · duration>2h · age<3d · started>2026-11-20
Any option of a run: loss.beta_max>0.5 · optim.lr_schedule=cosine · seed=3
Several words have to hold together; - in front of one excludes; "quotes" keep spaces.
Keys: / searches, arrows move, Enter opens, Space selects (with Shift up to here), E edits tags and note."""


@cache
def script() -> str:
    """The component's JavaScript."""
    names = [*(f"overview-{part}.js" for part in PARTS), "overview.js"]
    return "\n".join((FRONTEND / name).read_text(encoding="utf-8") for name in names)


def run_list(key: str) -> Any:
    """Mount the list. The result has `open` ({"page", "runs"}) and `act` ({"what", "runs"}) in the one run that they cause."""
    component = st.components.v2.component("seqsetvae.runs", js=script(), isolate_styles=False)
    data = {"rows": ROWS.lstrip("/"), "push": PUSH.lstrip("/"), "help": HELP}
    return component(key=key, data=data, on_open_change=_nothing, on_act_change=_nothing, on_empty_change=_nothing)


def _nothing() -> None:
    """The rerun is all that is wanted."""
