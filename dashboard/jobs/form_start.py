"""What a new training starts from: a preset, the configuration of another run, or a checkpoint to go on with."""

from collections.abc import Callable

import streamlit as st

from dashboard.checkpoints.listing import file_names
from dashboard.jobs.draft import Draft, from_checkpoint, from_preset, from_run, from_words
from dashboard.jobs.presets import PRESETS
from dashboard.runs.loading import resolve_run
from dashboard.service import service
from dashboard.widgets import banner, el
from shared.errors import InputError

RUN, RESUME, JOB = "run", "resume", "job"
TITLES = {**{key: preset.title for key, preset in PRESETS.items()}, RUN: "A run", RESUME: "Resume"}
FURTHEST = "furthest"
DRAFT, OF, ASKED, SEEN, EARLIER = "draft", "draft of", "job start", "address seen", "earlier job"


def current_draft() -> Draft | None:
    """The draft that the choice of a start leads to; what was typed stays until another start is chosen. None when it cannot be."""
    _follow_address()
    st.session_state.setdefault(ASKED, "recommended")
    titles = TITLES | ({JOB: "An earlier job"} if EARLIER in st.session_state else {})
    start = st.segmented_control(
        "Start from", list(titles), format_func=titles.__getitem__, required=True, key=ASKED,
        persist_state="session",
        help="A preset, the options of another run (to change some of them), or a checkpoint to go on with in its own run.",
    )  # fmt: skip
    if start in PRESETS:
        _address()
        preset = PRESETS[start]
        draft = _kept(start, lambda: from_preset(start, service().runs))
        st.html(el("p", preset.why, " ", el("span", preset.trades, cls="sv-dim"), cls="sv-why"))
        return draft
    if start == JOB:
        return _of_job()
    return _of_run() if start == RUN else _resumed()


def reuse(words: list[str]) -> None:
    """Put the options of an earlier job into the form."""
    st.session_state.update({EARLIER: words, ASKED: JOB})


def _of_job() -> Draft | None:
    words = st.session_state[EARLIER]
    _address()
    st.html(el("p", "The options of an earlier job, to change and start again.", cls="sv-why"))
    return _try(f"{JOB} {words}", lambda: from_words(words, service().runs))


def _follow_address() -> None:
    """`?from=RUN` and `?resume=RUN/FILE` choose a start, once per address."""
    asked = (st.query_params.get("from"), st.query_params.get(RESUME))
    if asked == st.session_state.get(SEEN) or asked == (None, None):
        return
    st.session_state[SEEN] = asked
    run, target = asked
    if run is not None:
        st.session_state.update({ASKED: RUN, "from run": run})
    elif target is not None:
        name, _, file = target.partition("/")
        st.session_state.update({ASKED: RESUME, "resumed run": name, "resumed file": file or FURTHEST})


def _address(**wanted: str) -> None:
    """The address says what the form started from."""
    for name in ("from", RESUME):
        if name not in wanted and name in st.query_params:
            del st.query_params[name]
    for name, value in wanted.items():
        if st.query_params.get(name) != value:
            st.query_params[name] = value
    st.session_state[SEEN] = (wanted.get("from"), wanted.get(RESUME))


def _names(key: str) -> list[str]:
    """Runs to choose from, and the one asked for even if it is not there: that is said below."""
    names = service().summaries.names()
    asked = st.session_state.get(key)
    return names if asked is None or asked in names else [asked, *names]


def _of_run() -> Draft | None:
    names = _names("from run")
    if not names:
        st.html(banner("info", "No run yet.", "There is no run whose options could be taken over; choose a preset."))
        return None
    name = st.selectbox("Run", names, key="from run", persist_state="session")
    _address(**{"from": name})
    return _try(f"{RUN} {name}", lambda: from_run(name, service().runs))


def _resumed() -> Draft | None:
    names = _names("resumed run")
    if not names:
        st.html(banner("info", "No run yet.", "There is nothing to resume; choose a preset."))
        return None
    left, right = st.columns(2)
    name = left.selectbox("Run to go on with", names, key="resumed run", persist_state="session")
    layout = resolve_run(service().runs, name)
    files = file_names(layout)[::-1] if layout else []
    asked = st.session_state.get("resumed file")
    if asked is not None and asked not in (FURTHEST, *files):
        files = [str(asked), *files]
    file = right.selectbox(
        "Checkpoint", [FURTHEST, *files], key="resumed file", persist_state="session",
        format_func=lambda each: "The furthest" if each == FURTHEST else each,
        help="Steps after it are made again: their log lines and checkpoints are put away in the run's folder `discarded`.",
    )  # fmt: skip
    target = name if file == FURTHEST else f"{name}/{file}"
    _address(resume=target)
    st.html(
        el("p", "Goes on in the same run. The model, seed, stage and label stay as they are; lengths, learning rate, batch size and "
           "watching may change.", cls="sv-why")
    )  # fmt: skip
    return _try(f"{RESUME} {target}", lambda: from_checkpoint(target, service().runs))


def _try(of: str, make: Callable[[], Draft]) -> Draft | None:
    try:
        return _kept(of, make)
    except InputError as error:
        st.html(banner("alarm", "This cannot be started from.", str(error)))
        return None


def _kept(of: str, make: Callable[[], Draft]) -> Draft:
    if st.session_state.get(OF) != of or DRAFT not in st.session_state:
        _set(of, make())
    return st.session_state[DRAFT]


def _set(of: str, draft: Draft) -> None:
    before = st.session_state.get(DRAFT)
    draft.generation = before.generation + 1 if before is not None else 0
    st.session_state.update({DRAFT: draft, OF: of})
