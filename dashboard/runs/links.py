"""Links inside a run that lead out of it: whoever may write into a runs folder must not be able to show files from elsewhere."""

import os
import time
from pathlib import Path

from shared.layout import SNAPSHOT_KINDS

READ = ("", *SNAPSHOT_KINDS, "analysis", os.path.join("analysis", "progress"))  # noqa: PTH118
"""Folders of a run whose files pages open. Those in checkpoints are judged one by one where they are listed."""
TICK_NS = 2_000_000_000
"""Younger than this, the time of a folder's last change does not tell whether there was another one since."""
MOST_KNOWN = 50_000

_known: dict[str, tuple[int, tuple[str, ...]]] = {}
"""Folder to the time of its last change, and the links that were in it."""


def leads_out(root: Path) -> str | None:
    """Why a run must not be read: which of its entries is a link that leaves it. None when none does, be there links within."""
    home: str | None = None
    for folder in READ:
        for name in _links(os.path.join(root, folder)):  # noqa: PTH118
            path = os.path.join(root, folder, name)  # noqa: PTH118
            home = home or os.path.realpath(root)
            if not os.path.realpath(path).startswith(home + os.sep):
                return f"{os.path.join(folder, name)} is a link to somewhere outside this run; it is not followed"  # noqa: PTH118
    return None


def _links(folder: str) -> tuple[str, ...]:
    """Names of the links in a folder; listed anew only when it has changed."""
    try:
        changed = os.stat(folder).st_mtime_ns  # noqa: PTH116
        known = _known.get(folder)
        if known is not None and known[0] == changed:
            return known[1]
        with os.scandir(folder) as entries:
            links = tuple(sorted(entry.name for entry in entries if entry.is_symlink()))
    except OSError:  # not there, or closed to us: then nothing in it is read either
        return ()
    if time.time_ns() - changed > TICK_NS:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[folder] = changed, links
    return links
