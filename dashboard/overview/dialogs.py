"""What can be done with runs from the list: tags and notes, putting away, deleting. All of it is confirmed in a dialog first.

Changes go through the session's own socket, never through an address that another web site could call.
"""

from collections.abc import Callable, Iterable

import streamlit as st

from dashboard.formats import size
from dashboard.overview.deleting import delete_run, folder_size, why_kept
from dashboard.overview.notes import MAX_NOTE, change_notes, with_note, with_tags
from dashboard.overview.summaries import RunSummary
from dashboard.service import service
from dashboard.widgets import badge, banner, el, join
from shared.errors import InputError
from shared.reader import Health
from shared.schema import RunNotes

SHOWN = 200


def open_dialog(what: str, names: list[str]) -> None:
    """Open the dialog for one action on these runs; restoring needs none."""
    summaries = service().summaries
    runs = [run for run in map(summaries.find, names) if run is not None]
    if not runs:
        st.toast("These runs are no longer here.", icon=":material/info:")
    elif what == "restore":
        _apply([run.name for run in runs], lambda notes: notes.model_copy(update={"archived": False}))
    elif what == "notes" and len(runs) == 1:
        _notes_of_one(runs[0])
    elif what == "notes":
        _tags_of_many(runs)
    elif what == "archive":
        _archive(runs)
    elif what == "delete":
        _delete(runs)


def _apply(names: Iterable[str], change: Callable[[RunNotes], RunNotes]) -> bool:
    """Change the notes of all these runs; says what could not be done, and whether all was."""
    failed = []
    for name in names:
        try:
            change_notes(service().runs, name, change)
        except InputError as error:
            failed.append(str(error))
    _say(failed)
    return not failed


def _say(problems: list[str]) -> None:
    """Errors as text: they hold names of runs, which are never markup."""
    if problems:
        more = f" And {len(problems) - 5} more." if len(problems) > 5 else ""
        st.html(banner("alarm", "Not done.", " · ".join(problems[:5]) + more))


def _listed(runs: list[RunSummary], beside: Callable[[RunSummary], str | None]) -> None:
    rows = [
        el("li", badge(run.status.health), el("span", run.name, cls="sv-named"), el("span", beside(run), cls="sv-dim"))
        for run in runs[:SHOWN]
    ]
    more = el("li", f"and {len(runs) - SHOWN:,} more", cls="sv-dim") if len(runs) > SHOWN else None
    st.html(el("ul", join(rows), more, cls="sv-listed"))


def _known_tags() -> list[str]:
    return sorted({tag for run in service().summaries.heads() for tag in run.notes.tags}, key=str.lower)


@st.dialog("Tags and note")
def _notes_of_one(run: RunSummary) -> None:
    st.html(el("p", run.name, cls="sv-named"))
    before = run.notes
    here = (
        f"{run.name} {hash(str(before))}"  # what was typed for another run, or before somebody else wrote, must not come back
    )
    tags = st.multiselect("Tags", sorted({*_known_tags(), *before.tags}, key=str.lower), default=before.tags, accept_new_options=True,
                          placeholder="Choose one, or type a new one and press Enter", key=f"tags {here}")  # fmt: skip
    note = st.text_area("Note", before.note, max_chars=MAX_NOTE, height=160, key=f"note {here}",
                        placeholder="What was tried, and what came of it")  # fmt: skip
    st.caption("Kept in notes.json in the run's folder, as plain text; everyone who opens this dashboard sees it.")
    if st.button("Save", type="primary"):
        gone = set(before.tags) - set(tags)
        if _apply([run.name], lambda now: with_note(with_tags(now, tags, gone), before.note, note)):
            st.rerun()


@st.dialog("Tags")
def _tags_of_many(runs: list[RunSummary]) -> None:
    _listed(runs, lambda run: ", ".join(run.notes.tags))
    here = hash(str([(run.name, run.notes.tags) for run in runs]))
    add = st.multiselect("Add", _known_tags(), accept_new_options=True, key=f"add {here}",
                         placeholder="Choose one, or type a new one and press Enter")  # fmt: skip
    present = sorted({tag for run in runs for tag in run.notes.tags}, key=str.lower)
    remove = st.multiselect(
        "Remove", present, placeholder="Tags that these runs have", disabled=not present, key=f"remove {here}"
    )
    asked = st.button(f"Save for {len(runs):,} runs", type="primary", disabled=not (add or remove))
    if asked and _apply([run.name for run in runs], lambda now: with_tags(now, add, remove)):
        st.rerun()


@st.dialog("Archive")
def _archive(runs: list[RunSummary]) -> None:
    one = len(runs) == 1
    st.write(f"Put {'this run' if one else f'these {len(runs):,} runs'} away? The list hides archived runs until it is asked for "
             "them. Nothing is deleted, and a training goes on.")  # fmt: skip
    _listed(runs, lambda run: None)
    asked = st.button("Archive" if one else f"Archive {len(runs):,} runs", type="primary")
    if asked and _apply([run.name for run in runs], lambda notes: notes.model_copy(update={"archived": True})):
        st.rerun()


@st.dialog("Delete for good")
def _delete(runs: list[RunSummary]) -> None:
    kept = [run for run in runs if why_kept(run.status)]
    doomed = [run for run in runs if not why_kept(run.status)]
    if kept:
        st.html(banner("warning", f"{len(kept):,} of them stay.", "They are running: stop the training first."))
        _listed(kept, lambda run: None)
    if not doomed:
        return
    with st.spinner("Counting bytes …"):
        sizes = {run.name: folder_size(run.status.layout.root) for run in doomed}
    one = len(doomed) == 1
    st.write("This deletes the whole folder: logs, checkpoints, snapshots and notes. It cannot be undone.")
    _listed(doomed, lambda run: size(sizes[run.name]))
    if any(run.status.health is Health.STALE for run in doomed):
        st.html(banner("warning", "Is it really over?", "A run without a heartbeat may still be working on another machine."))
    words = f"Delete {'1 run' if one else f'{len(doomed):,} runs'} ({size(sum(sizes.values()))})"
    if st.button(words, type="primary", icon=":material/delete:"):
        problems = []
        with st.spinner("Deleting …"):
            for run in doomed:
                try:
                    delete_run(service().runs, run.name)
                except InputError as error:
                    problems.append(str(error))
        _say(problems)
        if not problems:
            st.rerun()
