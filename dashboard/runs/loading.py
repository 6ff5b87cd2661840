"""From names to runs: which folder a name may mean, and the logs that all sessions share, in bounded memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from dashboard.runs.links import leads_out
from dashboard.runs.runlog import RunLog
from dashboard.runs.snapshot import Snapshot
from shared.layout import RunLayout
from shared.reader import Health, read_status

__all__ = ["Snapshot", "Store", "folder_token", "resolve_folder", "resolve_run", "why_refused"]
MAX_BYTES = 400_000_000
"""Of the curves of all open runs."""
MAX_OPEN_RUNS = 256


def resolve_run(runs: Path, name: str) -> RunLayout | None:
    """The run of that name, to be read; None where there is none, and for one with links that lead out of it (`why_refused`)."""
    layout = resolve_folder(runs, name)
    return layout if layout is not None and leads_out(layout.root) is None else None


def why_refused(runs: Path, name: str) -> str | None:
    """Why a run that is there is not read; None for one that is, and for one that is not there."""
    layout = resolve_folder(runs, name)
    return leads_out(layout.root) if layout is not None else None


def resolve_folder(runs: Path, name: str) -> RunLayout | None:
    """The folder directly under `runs` with that name; None for anything else, be it `..`, a path or a link to elsewhere.

    Nothing in it may be opened by this alone: see `resolve_run`.
    """
    if not name or name.startswith(".") or "\0" in name or Path(name).name != name or "\\" in name:
        return None
    root = runs / name
    try:
        inside = root.resolve().parent == runs.resolve() and root.is_dir()
    except (OSError, RuntimeError):  # the second: a link that leads in a circle
        return None
    return RunLayout(root) if inside else None


def folder_token(root: Path, *names: str) -> str:
    """Changes when a file appears in, leaves, or is replaced in one of these folders of a run."""
    return "-".join(str(_changed_at(root / name)) for name in names)


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


class Store:
    """The runs of one folder. The logs not looked at for longest are forgotten when all that are open take too much memory.

    Those that `looked_at` names are kept: they would be read anew at their next step.
    """

    def __init__(
        self,
        runs: Path,
        revision: Callable[[str], int],
        changed: Callable[[str], None] = lambda name: None,
        looked_at: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.runs = runs
        self.revision = revision
        self._changed = changed
        self._looked_at = looked_at
        self._logs: OrderedDict[str, RunLog] = OrderedDict()
        self._lock = threading.Lock()

    def snapshot(self, name: str) -> Snapshot | None:
        """The run of that name, or None if there is no such folder (any more)."""
        layout = resolve_run(self.runs, name)
        with self._lock:
            if layout is None:
                gone = self._logs.pop(name, None)
                if gone is not None:
                    gone.close()
                return None
            if name not in self._logs:
                self._logs[name] = RunLog(layout, lambda: self._changed(name))
            run = self._logs[name]
            self._logs.move_to_end(name)
            self._forget()
        return run.snapshot(self.revision(name))

    def _forget(self) -> None:
        used = sum(run.bytes for run in self._logs.values())
        if used <= MAX_BYTES and len(self._logs) <= MAX_OPEN_RUNS:
            return
        kept = {*self._looked_at(), next(reversed(self._logs))}
        for name in [name for name in self._logs if name not in kept]:
            if used <= MAX_BYTES and len(self._logs) <= MAX_OPEN_RUNS:
                return
            oldest = self._logs.pop(name)
            used -= oldest.bytes
            oldest.close()

    def shown(self, name: str) -> Health | None:
        """The state of a run as pages have it; None where none does."""
        run = self._logs.get(name)
        return run.health if run else None

    def health(self, name: str) -> Health | None:
        """The state of a run without its logs."""
        layout = resolve_run(self.runs, name)
        return read_status(layout).health if layout else None
