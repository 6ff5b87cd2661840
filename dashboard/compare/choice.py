"""Which runs a comparison is of, and their logs: chosen by name, by filter, or the newest where nobody chose."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dashboard.compare.curves import Drawn
from dashboard.compare.filter import candidate, matching
from dashboard.compare.view import MOST_RUNS, NEWEST, View
from dashboard.overview.summaries import RunSummary, Summaries
from dashboard.runs.colours import Colours
from dashboard.runs.loading import Store, why_refused
from shared.errors import InputError
from shared.reader import Health

READERS = 4
"""Logs read at the same time: parsing leaves Python to others for most of its time."""


@dataclass(frozen=True)
class Choice:
    """Names of the runs to compare, and what is to be said about how they were found."""

    names: tuple[str, ...]
    by_filter: int = 0
    newest: bool = False
    beyond: int = 0
    """Chosen runs for which there is no room."""
    problem: str | None = None
    """Why the filter could not be understood."""


def choose(view: View, runs: Sequence[RunSummary]) -> Choice:
    """The runs of a view: those named, then those not archived that the filter finds, newest first; of neither, the newest with a log."""
    problem, found = None, []
    if view.filter.strip():
        try:
            found = [run.name for run in matching(view.filter, (candidate(run) for run in runs if not run.notes.archived))]
        except InputError as error:
            problem = str(error)
    names = list(dict.fromkeys([*view.run, *found]))
    if names or view.filter.strip():
        by_filter = len(names) - len(view.run)
        return Choice(tuple(names[:MOST_RUNS]), by_filter, beyond=max(len(names) - MOST_RUNS, 0), problem=problem)
    started = [run.name for run in runs if run.step > 0 and run.status.health is not Health.BROKEN and not run.notes.archived]
    return Choice(tuple(started[:NEWEST]), newest=True)


def listed(view: View, summaries: Summaries) -> list[RunSummary]:
    """Every run, with all that this view asks of it: only a filter has to wait for logs."""
    return summaries.all() if view.filter.strip() else summaries.heads()


@dataclass(frozen=True)
class Loaded:
    """The runs that can be drawn, and those that cannot with the reason."""

    runs: tuple[Drawn, ...]
    missing: dict[str, str]


def load(names: Sequence[str], store: Store, colours: Colours) -> Loaded:
    """Read the logs of these runs; one that is gone or broken is named and the others are drawn."""
    with ThreadPoolExecutor(READERS) as pool:
        snapshots = list(pool.map(store.snapshot, names))
    here = [(name, snapshot) for name, snapshot in zip(names, snapshots, strict=True) if snapshot is not None]
    styles = colours.all([name for name, _ in here])
    missing = {
        name: why_refused(store.runs, name) or "No such folder is in the runs folder (any more)."
        for name, found in zip(names, snapshots, strict=True)
        if found is None
    }
    for name, snapshot in here:
        if snapshot.status.health is Health.BROKEN:
            missing[name] = snapshot.status.reason or "run.json cannot be read"
    return Loaded(tuple(Drawn(snapshot, styles[name]) for name, snapshot in here if name not in missing), missing)
