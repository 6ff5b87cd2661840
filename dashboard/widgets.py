"""Small pieces of page, built as HTML in which every text is escaped: names, notes and errors of a run are never markup."""

import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dashboard.formats import number, ranges
from shared.collapse import Verdict
from shared.metrics import PROBE
from shared.reader import Health, RunStatus

BADGES: dict[Health, tuple[str, str]] = {
    Health.CREATED: ("○", "Created"),
    Health.RUNNING: ("●", "Running"),
    Health.FINISHED: ("✓", "Finished"),
    Health.INTERRUPTED: ("❙❙", "Interrupted"),
    Health.FAILED: ("✕", "Failed"),
    Health.STALE: ("?", "Stale"),
    Health.DEAD: ("✕", "Dead"),
    Health.BROKEN: ("!", "Broken"),
}
"""Sign and word per state: colour is never the only difference."""
SIGNS = {"ok": "✓", "info": "i", "warning": "!", "alarm": "✕"}


ENDED: dict[Health, tuple[str, str, str, str]] = {
    Health.DEAD: ("alarm", "The training process is gone.", "", "Resume from the last checkpoint:"),
    Health.FAILED: ("alarm", "Training failed.", "No reason was recorded.",
                    "Mend the cause (console.log has the traceback), then resume:"),
    Health.STALE: ("warning", "No sign of life.", "", "Look at the machine it runs on. If the process is gone, resume:"),
    Health.INTERRUPTED: ("info", "Training was interrupted.", "It can go on where it stopped.", "Resume:"),
}  # fmt: skip
"""Severity, title, what is said where no reason is known, and what to do, of runs that can be resumed."""
IMPORTED = "imported from a TensorBoard log: it has no checkpoint to go on from"


class Html(str):
    """Text that is already safe markup. Only `el` makes it."""

    __slots__ = ()


def el(name: str, /, *children: str | None, **attributes: str | None) -> Html:
    """An element; children and attribute values are escaped unless they came from `el`. `cls` is `class`, `_` is `-`."""
    inner = "".join(child if isinstance(child, Html) else html.escape(child) for child in children if child is not None)
    named = (
        ("class" if key == "cls" else key.replace("_", "-"), value) for key, value in attributes.items() if value is not None
    )
    opening = "".join(f' {key}="{html.escape(value, quote=True)}"' for key, value in named)
    return Html(f"<{name}{opening}>{inner}</{name}>")


def plain(words: str) -> str:
    """Words for labels, captions and help, which Streamlit reads as Markdown: they come out as they are, and are no markup."""
    escaped = re.sub(r"([!-/;-@\[-`{-~])", r"\\\1", " ".join(words.split()))
    return re.sub(
        r":(?=[A-Za-z_/\\])", ":\u2060", escaped
    )  # shortcodes such as :red[ and :smile: know no escape: a word joiner parts them


def join(parts: Iterable[Html]) -> Html:
    """Several elements in a row."""
    return Html("".join(parts))


def badge(health: Health) -> Html:
    """The state of a run: sign, word and colour."""
    sign, word = BADGES[health]
    return el(
        "span",
        el("span", sign, cls="sv-sign", aria_hidden="true"),
        word,
        cls=f"sv-badge sv-{health.value}",
        data_state=health.value,
    )


def banner(
    severity: str, title: str, detail: str, remedy: str | None = None, command: str | None = None, note: str | None = None,
    age: Html | None = None,
) -> Html:  # fmt: skip
    """A message with what to do next; `note` is said in small letters."""
    return el(
        "section",
        el("span", SIGNS[severity], cls="sv-icon", aria_hidden="true"),
        el(
            "div",
            el("p", el("strong", title), " ", detail),
            el("p", note, cls="sv-dim sv-evidence") if note else None,
            el("p", "Posterior last ", age, ".", cls="sv-dim sv-evidence") if age else None,
            el("p", el("span", "What to do: ", cls="sv-dim"), remedy) if remedy else None,
            el("code", command, cls="sv-command") if command else None,
        ),
        cls=f"sv-banner sv-{severity}", role="status", data_severity=severity,
    )  # fmt: skip


def verdict_banner(verdict: Verdict, age: Html | None = None) -> Html:
    """The verdict, the step at which it began, its evidence, what to do, and `age`: how old the newest figures are."""
    since = f" Since step {verdict.began:,}." if verdict.began is not None and verdict.kind != "nonfinite" else ""
    return banner(
        verdict.severity, verdict.title + ".", verdict.detail + since, verdict.advice, note=evidence(verdict), age=age
    )


def evidence(verdict: Verdict) -> str | None:
    """The numbers behind a verdict, each with the limit it was held against."""
    parts = []
    for name, value in verdict.evidence.items():
        label = PROBE[name].label if name in PROBE else name.replace("_", " ")
        limit = f" (limit {number(verdict.thresholds[name], 3)})" if name in verdict.thresholds else ""
        parts.append(f"{label} {number(value, 3)}{limit}")
    if verdict.dims:
        parts.append(f"units {ranges(verdict.dims)}")
    then = f" at step {verdict.measured:,}" if verdict.measured is not None else ""
    return f"Evidence{then}: " + " · ".join(parts) if parts else None


def is_imported(status: RunStatus) -> bool:
    """Whether another program trained the run: its log was imported, and it has no checkpoint to go on from."""
    return status.info is not None and status.info.imported is not None


def imported(title: str, lacks: str) -> Html:
    """In place of what an imported run cannot have."""
    what = f"This run was imported from a TensorBoard log. Such a log holds {lacks}, only curves: they are on the Live page."
    return el("section", el("h1", title), el("p", what), cls="sv-landing", data_state="imported")


def state_banner(status: RunStatus) -> Html | None:
    """What is wrong with the run itself, and how to go on; None when nothing is."""
    reason = status.reason or ""
    if status.health in ENDED:
        severity, title, unknown, then = ENDED[status.health]
        if is_imported(status):
            return banner(severity, title, reason, f"It was {IMPORTED}. Resume it with its own program, and import again.")
        resume = f"python -m backend train --resume_from_checkpoint {shlex.quote(str(status.layout.root))}"
        return banner(severity, title, reason or unknown, then, resume)
    if status.health is Health.BROKEN:
        return banner("alarm", "This run cannot be read.", reason, "Restore run.json from a copy, or move the folder away.")
    return banner("warning", "Part of the run cannot be read.", reason) if reason else None


def progress(step: int, planned: int | None) -> Html | None:
    """A thin bar; None where the end is not known."""
    if not planned:
        return None
    share = min(step / planned, 1.0)
    bar = el("span", style=f"width:{share:.2%}")
    return el("div", bar, cls="sv-progress", data_width="progress", role="progressbar", aria_label="steps done")


def event_table(events: Sequence[Mapping[str, Any]], shown: int = 100) -> Html:
    """Events of a run, newest first."""
    heads = ("Time (UTC)", "Step", "Kind", "Message")
    rows = (
        (
            str(event.get("at", ""))[:19].replace("T", " "),
            f"{event['step']:,}",
            str(event.get("kind", "")),
            str(event.get("message", "")),
        )
        for event in reversed(events[-shown:])
    )
    return el(
        "table",
        el("thead", el("tr", *(el("th", head, scope="col") for head in heads))),
        el("tbody", *(el("tr", *(el("td", cell) for cell in row)) for row in rows)),
        cls="sv-events",
    )
