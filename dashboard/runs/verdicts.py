"""What the verdicts on a run, as its trainer wrote them among the events, advise."""

from shared.collapse import Verdict


def remedies(found: list[Verdict]) -> list[str]:
    """Remedies of the alarms among verdicts, those that help most first."""
    return list(dict.fromkeys(name for verdict in found if verdict.severity == "alarm" for name in verdict.remedies))
