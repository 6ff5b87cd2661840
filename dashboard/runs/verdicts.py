"""The verdicts a page shows for a run: those that its trainer wrote among the events."""

from dashboard.runs.loading import Snapshot
from shared.collapse import Verdict
from shared.verdicts import unwatched


def verdicts(snapshot: Snapshot) -> list[Verdict]:
    """All that is to be said about a run, the most serious first: at least one."""
    return snapshot.verdicts


def why_unwatched(snapshot: Snapshot) -> str | None:
    """What stands in the posterior charts of a run that has no posterior to watch."""
    reason = None if snapshot.probes else unwatched(snapshot.configuration)
    return reason.title if reason else None


def remedies(found: list[Verdict]) -> list[str]:
    """Remedies of the alarms among verdicts, those that help most first."""
    return list(dict.fromkeys(name for verdict in found if verdict.severity == "alarm" for name in verdict.remedies))
