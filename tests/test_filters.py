"""The two filters, of the list of runs (JavaScript) and of a comparison (Python): one file of cases holds both to one language."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dashboard.compare.filter import Candidate, matching
from shared.errors import InputError

TESTS = Path(__file__).parent
KNOWN: dict[str, Any] = json.loads((TESTS / "filter_cases.json").read_text(encoding="utf-8"))
LETTERS = {"p12-healthy": "h", "p12-collapsed": "c", "old": "o"}
SCRIPT = """
const { runs, cases } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const facts = { defaults: {}, options: [...new Set(runs.flatMap((row) => Object.keys(row.config)))] };
const ask = (text) => { try { const { test } = parse(text, facts); return runs.filter(test).map((row) => row.name); } catch { return null; } };
console.log(JSON.stringify(Object.fromEntries(Object.keys(cases).map((text) => [text, ask(text)]))));
"""


def candidate_of(row: dict[str, Any]) -> Candidate:
    verdict = row["verdict"] and (row["verdict"]["title"], row["verdict"]["kind"], row["verdict"]["severity"])
    progress = 100 * row["step"] / row["planned"] if row["planned"] else None
    figures = {name: row[name] for name in ("auroc", "units", "step", "duration")} | {"progress": progress}
    more = {name: row[name] for name in ("data", "device", "note", "simulated", "started")}
    return Candidate(row["name"], row["state"], tuple(row["tags"]), row["config"], figures, verdict=verdict, **more)


def letters(names: list[str] | None) -> str | None:
    return None if names is None else "".join(LETTERS[name] for name in names)


@pytest.mark.parametrize("text", KNOWN["cases"])
def test_the_filter_of_a_comparison(text: str) -> None:
    try:
        found: str | None = letters([run.name for run in matching(text, map(candidate_of, KNOWN["runs"]))])
    except InputError as error:
        found = None
        assert str(error).startswith("Filter ")
    assert found == KNOWN["cases"][text]


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the JavaScript, and is not installed")
def test_the_filter_of_the_list_of_runs() -> None:
    query = (TESTS.parent / "dashboard/frontend/overview-query.js").read_text(encoding="utf-8")
    ran = subprocess.run(
        ["node", "-e", query + SCRIPT], input=json.dumps(KNOWN), capture_output=True, text=True, timeout=30, check=True
    )
    assert {text: letters(names) for text, names in json.loads(ran.stdout).items()} == KNOWN["cases"]
