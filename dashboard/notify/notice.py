"""News of a run worth telling people who are not looking: what it is, and how it reads."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode

from pydantic import AwareDatetime, BaseModel

from dashboard.formats import duration
from shared.reader import Health, RunStatus

Severity = Literal["ok", "info", "warning", "alarm"]
TOLD: dict[Health, tuple[Severity, str]] = {
    Health.FINISHED: ("ok", "Training finished"),
    Health.INTERRUPTED: ("info", "Training was interrupted"),
    Health.FAILED: ("alarm", "Training failed"),
    Health.DEAD: ("alarm", "The training process is gone"),
    Health.STALE: ("warning", "No sign of life"),
}
"""States that are news; created and running are what somebody just asked for."""
LONGEST = 600
"""Characters of a text: an exception may be pages long."""


class Notice(BaseModel):
    """One piece of news. `number` rises, also from one start of the dashboard to the next."""

    number: int
    run: str
    kind: str
    severity: Severity
    title: str
    detail: str
    step: int
    at: AwareDatetime
    """When it happened; of a process that is gone, its last sign of life."""

    def payload(self, address: str) -> dict[str, Any]:
        """What a webhook and a command get. `text` is for Slack and Mattermost: one message, in which nothing of a run's name or of an
        error is a link, a format or a call to everybody."""
        url = f"{address}/live?{urlencode({'run': self.run}, quote_via=quote)}"
        told = f"{self.title}: {self.run}, step {self.step:,}. {self.detail}".strip()
        return {
            "text": f"{_plain(told)}\n{url}", "title": self.title, "detail": self.detail, "run": self.run, "kind": self.kind,
            "severity": self.severity, "step": self.step, "at": self.at.isoformat(), "url": url, "number": self.number,
        }  # fmt: skip


def of_state(number: int, status: RunStatus) -> Notice | None:
    """The news that a run ended, or that its process did; None for a state that is none."""
    if status.health not in TOLD or status.info is None:
        return None
    severity, title = TOLD[status.health]
    info, beat = status.info, status.heartbeat
    detail = status.reason or ""
    if status.health is Health.FINISHED:
        detail = f"It took {duration((info.state_since - info.created_at).total_seconds())}, pauses included."
    return Notice(
        number=number, run=status.name, kind=status.health.value, severity=severity, title=title, detail=_short(detail),
        step=beat.step if beat else 0, at=beat.at if beat and status.health in (Health.DEAD, Health.STALE) else info.state_since,
    )  # fmt: skip


def of_verdict(number: int, run: str, event: Mapping[str, Any], at: datetime) -> Notice | None:
    """The news of a verdict that has begun, or become an alarm; None for one that is over or that only watches."""
    data = event.get("data")
    if not isinstance(data, dict) or data.get("ended") is not None or data.get("severity") not in ("warning", "alarm"):
        return None
    began = data.get("began")
    since = f" Since step {began:,}." if isinstance(began, int) else ""
    return Notice(
        number=number, run=run, kind=str(data.get("verdict", "verdict")), severity=data["severity"],
        title=_short(str(data.get("title", "Verdict"))),
        detail=_short(f"{data.get('detail', '')}{since} {data.get('advice', '')}".strip()), step=event["step"], at=at,
    )  # fmt: skip


def _short(text: str) -> str:
    """Without control characters (a command gets it in its environment), and not longer than a message may be."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def _plain(text: str) -> str:
    """Text that neither Slack nor Mattermost reads as more: no `<!channel>`, no `@all`, no link, no format."""
    for letter, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b"), ("](", "]\u200b(")):
        text = text.replace(letter, harmless)
    return text
