"""What people say of a run: tags, a note, and whether it is put away. Kept in the run's notes.json, so that it moves with it."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from dashboard.runs.loading import resolve_run
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunNotes
from shared.writer import write_record

MAX_TAG = 40
MAX_NOTE = 10_000
_writing = threading.Lock()
"""Two people who change the notes of one run at the same moment must both be heard."""


def read_notes(layout: RunLayout) -> RunNotes:
    """The notes of a run; empty where nobody has said anything.

    Raises:
        InputError: notes.json is there but cannot be read.
    """
    try:
        return read_record(layout.notes, RunNotes)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return RunNotes()
        raise


def change_notes(runs: Path, name: str, change: Callable[[RunNotes], RunNotes]) -> None:
    """Replace the notes of a run by `change` of what they are now, in a single step.

    Raises:
        InputError: no such run, or its notes can be neither understood nor written; nothing has changed then.
    """
    layout = resolve_run(runs, name)
    if layout is None:
        raise InputError(f"{name}: this run is no longer in {runs}")
    with _writing:
        try:
            before = read_notes(layout)
        except InputError as error:
            raise InputError(f"{error}. Mend or remove this file; it is not written over.") from error
        after = change(before)
        if after == before:
            return
        try:
            write_record(layout.notes, after)
        except OSError as error:
            raise InputError(
                f"{layout.notes}: cannot be written ({error.strerror}). Make the run's folder writable for the dashboard, or "
                "start the dashboard as the user who owns it."
            ) from error


def with_tags(notes: RunNotes, add: Iterable[str], remove: Iterable[str] = ()) -> RunNotes:
    """The notes with some tags more and some fewer; the order of the others stays."""
    gone = set(remove)
    tags = dict.fromkeys([*(tag for tag in notes.tags if tag not in gone), *map(clean_tag, add)])
    return notes.model_copy(update={"tags": list(tags)})


def with_note(notes: RunNotes, before: str, note: str) -> RunNotes:
    """The notes with another text, which was written by somebody who saw `before`.

    Raises:
        InputError: somebody else has changed the text meanwhile.
    """
    if notes.note not in (before, note):
        raise InputError(f"note: somebody has changed it meanwhile to {notes.note!r}. Copy what you wrote, and open it again.")
    return notes.model_copy(update={"note": note.strip()[:MAX_NOTE]})


def clean_tag(text: str) -> str:
    """A tag as it is kept: spaces made single.

    Raises:
        InputError: empty, too long, or with characters that do not print.
    """
    tag = " ".join(text.split())
    if not tag or len(tag) > MAX_TAG or not tag.isprintable():
        raise InputError(f"tag {text!r}: a tag has 1 to {MAX_TAG} printable characters; shorten it")
    return tag
