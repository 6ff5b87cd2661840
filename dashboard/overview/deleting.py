"""Deleting runs. A run goes at once and whole: its folder is renamed to one that no list shows, then emptied."""

import os
import shutil
import threading
import uuid
from pathlib import Path

from dashboard.runs.loading import resolve_folder, resolve_run
from shared.errors import InputError
from shared.reader import Health, RunStatus, read_status

TRASH = ".trash-"
"""Folders with a dot in front are never runs; what a killed dashboard left in one goes with the next deletion."""
_emptying = threading.Lock()


def why_kept(status: RunStatus) -> str | None:
    """Why this run must not be deleted; None when it may be."""
    if status.health in (Health.RUNNING, Health.CREATED):
        return "it is running: stop the training first"
    return None


def delete_run(runs: Path, name: str) -> None:
    """Delete a run and all that is in its folder.

    Raises:
        InputError: no such run, it is running, or its folder cannot be moved or emptied.
    """
    layout = resolve_folder(runs, name)
    if layout is None:
        raise InputError(f"{name}: this run is no longer in {runs}")
    kept = why_kept(read_status(layout)) if resolve_run(runs, name) else None  # one with links that lead out is not read
    if kept:
        raise InputError(f"{name}: {kept}")
    try:
        if layout.root.is_symlink():
            layout.root.unlink()
            return
        layout.root.rename(runs / f"{TRASH}{uuid.uuid4().hex}")
    except OSError as error:
        raise InputError(f"{name}: cannot be deleted ({error.strerror}); nothing of it was touched") from error
    empty_trash(runs)


def empty_trash(runs: Path) -> None:
    """Remove all that was deleted.

    Raises:
        InputError: something stays, for want of permission, say.
    """
    with _emptying:
        for folder in sorted(runs.glob(f"{TRASH}*")):
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise InputError(
                    f"{folder}: the run is off the list, but not all of its files can be removed ({error.strerror}); remove the "
                    "folder by hand"
                ) from error


def folder_size(root: Path) -> int:
    """Bytes of all files below a folder; linked folders are not entered."""
    total = 0
    for folder, _folders, files in os.walk(root):
        for name in files:
            try:
                total += Path(folder, name).lstat().st_size
            except OSError:  # gone since it was listed
                continue
    return total
