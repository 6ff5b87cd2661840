"""The settings of several runs side by side: what differs, and which runs are one experiment with other seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.compare.curves import Drawn, Group
from dashboard.formats import DASH, number
from dashboard.overview.rows import flat
from dashboard.runs.loading import Snapshot
from dashboard.widgets import Html, el

SEED, NAME = "trainer.seed", "output.run_name"
NOT_THE_EXPERIMENT = ("output.", "trainer.resume_from_checkpoint", "data.data_dir", "data.params_map_path", "data.label_path")
"""Where things lie says nothing about what was tried; the fingerprint of the data does."""
FEW_RUNS = 6
"""Up to so many runs stand side by side as columns; beyond, each is a row."""


def settings(snapshot: Snapshot) -> dict[str, Any]:
    """Every option of a run, and what it ran on, by dotted name; empty where run.json cannot be read."""
    info = snapshot.status.info
    if info is None:
        return {}
    about = {
        "data set": info.dataset.name if info.dataset else None,
        "data fingerprint": info.dataset.fingerprint[:12] if info.dataset else None,
        "device": info.device, "precision": info.precision, "parameters": info.parameters,
        "torch": info.versions.get("torch"),
    }  # fmt: skip
    branch = {"branched from": info.lineage.run, "remedy": info.lineage.remedy} if info.lineage else {}
    return {**flat(info.config), **{f"run.{name}": value for name, value in (about | branch).items()}}


def differing(snapshots: Sequence[Snapshot]) -> dict[str, list[Any]]:
    """Options but the name whose value differs, each with one value per run; a dash where a run has no such option."""
    known = [settings(snapshot) for snapshot in snapshots]
    names = dict.fromkeys(name for options in known for name in options)
    found = {name: [options.get(name, DASH) for options in known] for name in names}
    return {name: values for name, values in found.items() if name != NAME and len({repr(value) for value in values}) > 1}


def groups(runs: Sequence[Drawn], joined: bool) -> list[Group]:
    """Each run alone, or with `joined` those together that differ in nothing but the seed and where things lie."""
    if not joined:
        return [Group(run.name, (run,)) for run in runs]
    found: dict[Any, list[Drawn]] = defaultdict(list)
    for run in runs:
        found[_experiment(run)].append(run)
    members = list(found.values())
    telling = differing([each[0].snapshot for each in members])
    return [Group(_label(each, index, telling), tuple(each)) for index, each in enumerate(members)]


def _experiment(run: Drawn) -> tuple[tuple[str, str], ...] | str:
    options = settings(run.snapshot)
    kept = sorted((name, repr(value)) for name, value in options.items() if name != SEED and is_experiment(name))
    return tuple(kept) or run.name


def is_experiment(name: str) -> bool:
    """Whether an option says what was tried, and not only where."""
    return not name.startswith(NOT_THE_EXPERIMENT) and name not in ("run.device", "run.torch")


def _label(members: Sequence[Drawn], index: int, telling: Mapping[str, list[Any]]) -> str:
    """What sets a group of seeds apart from the others; a single run keeps its name."""
    if len(members) == 1:
        return members[0].name
    told = [
        f"{name.rpartition('.')[2]} {value_text(values[index])}"
        for name, values in telling.items()
        if name != SEED and is_experiment(name)
    ]
    words = ", ".join(told[:3]) or members[0].name
    return f"{len(members)} seeds: {words}"


def value_text(value: Any) -> str:
    """An option's value as people read it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else number(value)
    return ", ".join(value_text(each) for each in value) if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True)
class Difference:
    """The table of what differs: names of runs, and per option its values. The first run is what others are held against."""

    runs: tuple[str, ...]
    options: Mapping[str, list[Any]]

    def html(self) -> Html:
        """Options as rows for a few runs, runs as rows for many. What is not as in the first run is bold and has a sign."""
        cells = [
            [_cell(value, place > 0 and repr(value) != repr(values[0])) for place, value in enumerate(values)]
            for values in self.options.values()
        ]
        options = [el("th", _option_name(name), scope="row" if self._wide else "col", title=name) for name in self.options]
        runs = [
            el("th", name, el("small", "reference", cls="sv-dim") if not place else None, scope="col" if self._wide else "row")
            for place, name in enumerate(self.runs)
        ]
        heads, sides = (runs, options) if self._wide else (options, runs)
        rows = cells if self._wide else [[column[place] for column in cells] for place in range(len(self.runs))]
        corner = el("th", "Option" if self._wide else "Run", scope="col")
        body = (el("tr", side, *row) for side, row in zip(sides, rows, strict=True))
        table = el("table", el("thead", el("tr", corner, *heads)), el("tbody", *body), cls="sv-difference")
        return el("div", table, cls="sv-scroll", tabindex="0", role="region", aria_label="Differing options")

    @property
    def _wide(self) -> bool:
        return len(self.runs) <= FEW_RUNS


def _option_name(name: str) -> Html:
    group, _, option = name.rpartition(".")
    return el("span", el("span", f"{group}.", cls="sv-dim") if group else None, option)


def _cell(value: Any, changed: bool) -> Html:
    shown = el("span", value_text(value), cls="sv-dim" if value in (None, DASH) else None)
    return el(
        "td",
        el("span", "≠ ", aria_label="differs from the reference: ") if changed else None,
        shown,
        cls="sv-changed" if changed else None,
    )
