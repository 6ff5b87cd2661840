"""What a page offers to run: the exact command line to copy, and a button that starts it where jobs are allowed."""

import shlex
from collections.abc import Sequence

import streamlit as st

from dashboard.service import service


def offer(label: str, words: Sequence[str], *, key: str, help: str = "") -> None:
    """Show `python -m backend WORDS`; with --allow-jobs also a button `label` that puts it into the queue of jobs."""
    st.code(shlex.join(["python", "-m", "backend", *words]), language="bash", wrap_lines=True)
    if not service().options.allow_jobs:
        st.caption("Copy it into a terminal. To start it from here, run the dashboard with `--allow-jobs`.")
