"""The verdicts a page shows for a run: those of the trainer, on the same rows."""

from dashboard.loading import Snapshot
from shared.collapse import Verdict
from shared.verdicts import judge_run, unwatched


def verdicts(snapshot: Snapshot) -> list[Verdict]:
    """All that is to be said about a run, the most serious first: at least one."""
    nonfinite = {name: found.steps for name, found in snapshot.nonfinite.items()}
    newest = int(snapshot.steps[-1]) if len(snapshot.steps) else 0
    return judge_run(snapshot.configuration, snapshot.probes, nonfinite, newest)


def why_unwatched(snapshot: Snapshot) -> str | None:
    """What stands in the posterior charts of a run that has no posterior to watch."""
    reason = None if snapshot.probes else unwatched(snapshot.configuration)
    return reason.title if reason else None
