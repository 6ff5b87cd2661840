"""The table of results: final and best figures of each run or group of seeds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dashboard.compare.curves import Group
from dashboard.compare.outcomes import BETTER, ROLES, last_step, result, said_stays, title, verdict_of
from dashboard.compare.view import Ref
from dashboard.formats import DASH, count, number
from dashboard.widgets import Html, el


def table(groups: Sequence[Group], refs: Sequence[Ref]) -> pd.DataFrame:
    """One row per group: run, state, verdict, steps, and per metric the final and best value with its step.

    Of several seeds the mean; columns `... sd` hold the deviation. A column nobody has a value in is left out.
    """
    outcomes_first = sorted(refs, key=lambda ref: ROLES.index(ref[0]))
    frame = pd.DataFrame([_row(group, outcomes_first) for group in groups])
    return frame.dropna(axis="columns", how="all")


def _row(group: Group, refs: Sequence[Ref]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "Run": group.label,
        "State": ", ".join(dict.fromkeys(run.snapshot.status.health.value for run in group.members)),
        "Verdict": ", ".join(dict.fromkeys(verdict_of(run) for run in group.members)),
        "Steps": max(last_step(run.snapshot) for run in group.members),
    }
    validated = next((ref for ref in refs if ref[0] == "validation" and BETTER.get(ref[1])), None)
    if validated:
        found = [result(run.snapshot, validated) for run in group.members]
        row |= {f"Validation stays · {kind}": said_stays(counts) or None for kind, counts in
                (("final", [each.on for each in found]), ("best", [each.best_on for each in found]))}  # fmt: skip
    for ref in refs:
        found = [result(run.snapshot, ref) for run in group.members]
        name = title(ref)
        row[f"{name} · final"] = _mean([each.final for each in found])
        if BETTER.get(ref[1]):
            row[f"{name} · best"] = _mean([each.best for each in found])
            row[f"{name} · best at"] = found[0].best_step if len(found) == 1 else None
        if len(group.members) > 1:
            row[f"{name} · sd"] = _deviation([each.final for each in found])
    return row


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def frame_table(frame: pd.DataFrame) -> Html:
    """A table of outcomes as HTML, numbers for people, with the number itself for sorting."""
    parts = [str(name).rpartition(" · ") for name in frame.columns]
    heads = (el("th", el("span", metric), el("small", kind)) if metric else el("th", kind) for metric, _, kind in parts)
    rows = (el("tr", *(_frame_cell(value) for value in row)) for row in frame.itertuples(index=False))
    return el("table", el("thead", el("tr", *heads)), el("tbody", *rows), cls="sv-sortable")


def _frame_cell(value: object) -> Html:
    if isinstance(value, str):
        return el("td", value)
    if isinstance(value, int | float):
        known = not math.isnan(value)
        whole = known and float(value).is_integer()
        return el(
            "td",
            (count(value).replace("-", "−") if whole else number(value)) if known else DASH,
            data_value=repr(float(value)) if known else "",
            cls="sv-number",
        )
    return el("td", DASH, data_value="")
