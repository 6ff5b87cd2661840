"""The sections of the Live page and their charts, from a snapshot to cards; shows nothing."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dashboard.charts import Look, to_json
from dashboard.formats import number
from dashboard.live.dimensions import dimension_card
from dashboard.live.panels import View, figure
from dashboard.live.windows import PATH
from dashboard.runs.snapshot import Snapshot
from shared.metrics import TRAINING
from shared.panels import DECODER, LABELS, LOSSES, OUTCOME, PACE, POSTERIOR, WEIGHTS, Guide, Panel
from shared.reader import Health

ALIVE = (Health.CREATED, Health.RUNNING)
MOST_OTHERS = 24


@dataclass(frozen=True)
class Section:
    """A group of charts under one heading."""

    key: str
    title: str
    subtitle: str
    panels: tuple[Panel, ...]
    columns: int


LOADER_KEEPS_UP = 0.02
WAITING = Panel(
    "wait_share", ("training",), include=lambda _facts: [0.0, LOADER_KEEPS_UP],
    guides=lambda _facts: [Guide("the loader keeps up below 2 %", LOADER_KEEPS_UP, tone="limit")],
)  # fmt: skip
THROUGHPUT = Panel("stays_per_s", ("training",), include=lambda _facts: [0.0])
SECTIONS = (
    Section("posterior", "Posterior", "does the latent still carry the patient?", POSTERIOR, 2),
    Section("dimensions", "Dimensions", "which of them live", (), 1),
    Section("losses", "Losses", "training beside validation", LOSSES, 3),
    Section("outcome", "Outcome prediction", "on validation stays", OUTCOME, 3),
    Section("decoder", "Use of the latent", "on the probe set", DECODER, 2),
    Section("schedule", "Schedule", "what the optimizer was told, and what it did", (*PACE[:2], WEIGHTS, PACE[2]), 4),
    Section("pace", "Timing and throughput", "where a slow loader or a busy machine shows", (PACE[3], THROUGHPUT, WAITING), 3),
)
POSTERIOR_ALONE = "dimensions"


def others(snapshot: Snapshot) -> Section | None:
    """Metrics that a run logged under names of its own; None where there are none."""
    shown = {panel.metric for section in SECTIONS for panel in section.panels} | TRAINING.keys() | {"epoch"}
    names = sorted(snapshot.training.keys() - shown)[:MOST_OTHERS]
    panels = tuple(Panel(name, ("training",)) for name in names)
    return Section("others", "Also logged", "under names of the run's own", panels, 3) if panels else None


def split(snapshot: Snapshot, section: Section) -> tuple[list[Panel], list[Panel]]:
    """The panels to draw, and those of which a run that has ended never had a value."""
    missing = [] if snapshot.status.health in ALIVE else [panel for panel in section.panels if not _has_values(snapshot, panel)]
    return [panel for panel in section.panels if panel not in missing], missing


def _has_values(snapshot: Snapshot, panel: Panel) -> bool:
    named = [(role, panel.metric) for role in panel.sources] + [(role, name) for role, name, _ in panel.beside]
    return any(len(snapshot.series(role, name)[0]) for role, name in named)


def cards(snapshot: Snapshot, section: Section, look: Look, view: View) -> list[dict[str, Any]]:
    """The charts of a section, each made once for all who look at this revision in the same way."""
    drawn, _ = split(snapshot, section)
    if section.key == POSTERIOR_ALONE:
        made = [snapshot.once(("dimensions", look, view), lambda: dimension_card(snapshot, look, view))]
    else:
        made = [snapshot.once((panel.metric, look, view), lambda p=panel: card(snapshot, p, look, view)) for panel in drawn]  # type: ignore[misc]
    name = snapshot.status.name
    asked = urlencode({"run": name, "axis": view.axis, "smooth": view.span})
    shared = {"revision": f"{name} {snapshot.curves_token} {look} {view}", "link": f"{name} {view.axis}"}
    return [{**one, **shared, "window": f"{PATH.lstrip('/')}?{asked}"} for one in made]


def card(snapshot: Snapshot, panel: Panel, look: Look, view: View) -> dict[str, Any]:
    """One chart with its title, newest value and reading guide."""
    role = panel.sources[-1]
    value = snapshot.latest(role, panel.metric)
    return {
        "key": panel.metric,
        "title": panel.info.label,
        "newest": f"{LABELS[role]} {number(value)} {panel.info.unit}{_on(snapshot, role)}" if value is not None else "",
        "help": panel.help,
        "figure": to_json(figure(snapshot, panel, look, view)),
    }


def _on(snapshot: Snapshot, role: str) -> str:
    stays = snapshot.latest("validation", "stays") if role == "validation" else None
    return f" on {stays:,.0f} stays" if stays else ""
