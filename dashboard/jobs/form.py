"""The form that a training is started from: what it starts from, data, devices, options, and the command that follows."""

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from dashboard.jobs.data import DataSet, find, look, summary
from dashboard.jobs.draft import Draft
from dashboard.jobs.form_devices import choose_device
from dashboard.jobs.form_fields import choose_options
from dashboard.jobs.form_start import current_draft
from dashboard.jobs.queue import REFUSED
from dashboard.jobs.record import WIDTH, command_line
from dashboard.service import service
from dashboard.widgets import Html, banner, el, plain
from shared.config import TrainConfig
from shared.errors import InputError

NEWEST_RUNS = 100
"""So many runs are asked for their data sets."""


@st.fragment
def form() -> None:
    """All of it; reruns by itself as one types."""
    st.html(el("h2", "New training", el("small", "every option of the trainer, checked as you type"), cls="sv-section"))
    draft = current_draft()
    if draft is None:
        return
    data = choose_data(draft)
    device, lanes = choose_device(draft)
    config, problems = draft.checked()
    st.html(el("h3", "Options", cls="sv-step"))
    choose_options(draft, draft.changed(config), problems, _labels(data))
    st.html(el("h3", "Command", el("small", "what runs, to copy or to start from here"), cls="sv-step"))
    finish(draft, config, problems, data, device, lanes)


def choose_data(draft: Draft) -> DataSet:
    """A list of what was found, which also takes a typed path; and what is in it."""
    hub = service()
    found = found_at(str(hub.runs), tuple(str(place) for place in hub.options.data))
    titles = {str(each.path): each.title for each in found}
    chosen = str(look_at(draft).path)
    paths = [chosen, *(path for path in titles if path != chosen)]
    if draft.untouched("data_dir") == "prepared/demo" and "data_dir" not in draft.typed and found:
        paths = list(titles)
        draft.enter("data_dir", paths[0])
    places = plain(", ".join(str(place) for place in hub.options.data))
    key = f"data {draft.generation}"
    st.selectbox(
        "Data set", paths, key=key, format_func=lambda path: titles.get(path, path), accept_new_options=True,
        on_change=lambda: draft.enter("data_dir", st.session_state[key]),
        help=f"Prepared data sets found in {places} (--data DIR looks elsewhere too), and those of known runs. Another folder can "
        "be typed: its path on the machine that the dashboard runs on.",
    )  # fmt: skip
    data = look_at(draft)
    st.html(summary(data, str(draft.shown("label"))))
    return data


@st.cache_resource(ttl="10s", show_spinner=False, max_entries=16)
def found_at(runs: str, places: tuple[str, ...]) -> list[DataSet]:
    """Data sets in places, and of the newest runs. Not searched for again at every key: the folders may lie on a slow disk."""
    summaries = service().summaries
    newest = [summaries.find(name) for name in summaries.names()[:NEWEST_RUNS]]
    infos = [run.status.info for run in newest if run is not None]
    known = dict.fromkeys(info.dataset.path for info in infos if info and info.dataset)
    return find((Path(place) for place in places), known)


def look_at(draft: Draft) -> DataSet:
    """The data set that the draft names."""
    return look(service().jobs.cwd / str(draft.shown("data_dir")))


def _labels(data: DataSet) -> list[str]:
    return list(data.info.labels) if data.info is not None else []


def finish(
    draft: Draft, config: TrainConfig | None, problems: Mapping[str, str], data: DataSet, device: str, lanes: list[str]
) -> None:
    """The command, or what stands in its way; and the buttons."""
    hub = service()
    words, refused = None, list(problems.values())
    if config is not None:
        try:
            words = draft.words(config)
        except InputError as error:
            refused.append(str(error))
    refused += misfits(config, data)
    if words is not None:
        st.code(command_line(words, lanes, WIDTH), language="bash", wrap_lines=True)
    if refused:
        st.html(_refused(refused))
    if not hub.jobs.allowed:  # the queue refuses too: this only explains
        what = "It starts training in any terminal with this checkout."
        how = "Then jobs start from here, wait for their GPU, can be followed and stopped, and outlive the dashboard."
        st.html(banner("info", "Copy the command.", f"{what} {REFUSED[0].upper()}{REFUSED[1:]}. {how}"))
        return
    missing = hub.jobs.missing()
    if missing:
        st.html(banner("warning", "Nothing can be started here:", f"{missing}. Copy the command to a machine that has it."))
        return
    buttons(draft, config, words if not refused else None, device)


def misfits(config: TrainConfig | None, data: DataSet) -> list[str]:
    """Why the data set cannot be trained on with these options; nothing where it can."""
    if data.problem is not None:
        return [f"data.data_dir: {data.path} is not a data set to train on; choose another"]
    if data.info is None or config is None or config.trainer.stage == "pretrain" or config.data.label in data.info.labels:
        return []
    known = ", ".join(data.info.labels) or "none, so only --stage pretrain can be"
    return [f"data.label: {data.info.name} has no outcome {config.data.label!r}; it has {known}"]


def _refused(lines: list[str]) -> Html:
    title = f"{len(lines)} thing{'s' if len(lines) > 1 else ''} to mend before this can start."
    return el(
        "section", el("span", "!", cls="sv-icon", aria_hidden="true"),
        el("div", el("p", el("strong", title)), el("ul", *(el("li", line) for line in lines))),
        cls="sv-banner sv-warning sv-refused", role="status", data_severity="warning",
    )  # fmt: skip


def buttons(draft: Draft, config: TrainConfig | None, words: list[str] | None, device: str) -> None:
    """Start, and preflight."""
    hub = service()
    starts = "Resume training" if draft.target is not None else "Start training"
    waits = hub.jobs.would_wait(device)
    with st.container(horizontal=True):
        if st.button(
            "Add to queue" if waits else starts, key="start", type="primary", disabled=words is None,
            icon=":material/playlist_add:" if waits else ":material/play_arrow:",
            help=plain(f"{waits[0].upper()}{waits[1:]}.") if waits else "Its device is free: it starts at once.",
        ):  # fmt: skip
            submit(words or [], device)
        if st.button(
            "Preflight", key="preflight", disabled=words is None or draft.target is not None, icon=":material/flight_takeoff:",
            help="A job of a minute or so: what the run will take in time, memory and disk, and what beta will leave of its posterior.",
        ) and config is not None:  # fmt: skip
            submit(draft.words(config, "preflight"), device)


def submit(words: list[str], device: str) -> None:
    """Queue a job and show it, or say why not."""
    try:
        job = service().jobs.submit(words, device)
    except InputError as error:
        st.html(banner("alarm", "Not started.", str(error)))
        return
    except OSError as error:
        then = "Free the disk or mend the folder, then try again."
        st.html(banner("alarm", "Not started.", f"{error.filename}: {error.strerror}", then))
        return
    st.query_params.clear()
    st.query_params["job"] = job.id
    st.rerun()
