"""Metrics that runs logged under names of their own: offered beside the catalogue, drawn, listed, exported and reported."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from dashboard.charts import Look
from dashboard.compare.cards import chart
from dashboard.compare.choice import Choice
from dashboard.compare.config import groups
from dashboard.compare.export import stream
from dashboard.compare.outcomes import own_metrics, title
from dashboard.compare.report import report
from dashboard.compare.results import table
from dashboard.compare.table import columns
from dashboard.compare.view import View, ref_text
from shared.writer import JsonlWriter
from tests.browser.driving import find_chromium, open_tab
from tests.browser.looking import wait_charts
from tests.compared import compared_run, line_rows, loaded

TAG = "train/my_metric"
ODD = "<b>lr</b>, 50 % of 1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for name, more in (("a", {TAG: 7.0, ODD: 0.5}), ("b", {TAG: 8.0}), ("c", {})):
        layout = compared_run(runs, name, rows=line_rows(1.0, **more), steps=100)
    writer = JsonlWriter(layout.evaluations)
    writer.write(200, {"kind": "validation", "recall@5": 0.25, TAG: 3.0})
    writer.close()
    return runs


def test_what_runs_have_is_offered_beside_the_catalogue(runs: Path) -> None:
    assert own_metrics(loaded(runs).runs) == [
        ("training", ODD),
        ("validation", "recall@5"),
        ("training", TAG),
        ("validation", TAG),
    ]
    assert own_metrics(loaded(runs, "b").runs) == [("training", TAG)]


def test_they_are_drawn_listed_exported_and_reported(runs: Path) -> None:
    refs = [("training", TAG), ("training", ODD), ("validation", TAG)]
    view = View(metrics=",".join(map(ref_text, refs)))  # type: ignore[arg-type]
    found = loaded(runs)
    made = chart(groups(found.runs, False), view.refs[0], view, Look())
    assert (made.title, made.note) == (TAG, "not in: c") and "under this name" in made.help
    assert "title" not in made.figure["layout"]["yaxis"] or not made.figure["layout"]["yaxis"]["title"]["text"], (
        "no unit is known"
    )
    assert title(view.refs[2]) == f"{TAG}, validation"
    results = table(groups(found.runs, False), view.refs)
    assert results[f"{TAG} · final"].tolist()[:2] == [7.0, 8.0] and results[f"{TAG}, validation · final"].tolist()[2] == 3.0
    assert "under this name" in columns(results, view.refs)[f"{ODD} · final"]["help"]
    taken = b"".join(stream([run.snapshot.status.layout for run in found.runs], view.refs, "parquet"))
    frame = pq.read_table(io.BytesIO(taken)).to_pandas()
    assert frame.groupby(["role", "metric"], observed=True).size().to_dict() == {
        ("training", TAG): 200, ("training", ODD): 100, ("validation", TAG): 1,
    }  # fmt: skip
    text = report(Choice(("a", "b", "c")), found, view, "")
    assert f"<h3>{TAG}" in text and "&lt;b&gt;lr&lt;/b&gt;, 50 % of 1" in text and "<b>lr</b>" not in text


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium or Chrome on the PATH; `make test` installs one")
def test_one_is_chosen_by_its_name_and_stands_in_the_address(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/compare?run=a&run=b&metrics=training.loss")
    wait_charts(page, "training.loss")
    page.get_by_label("Chosen metrics").fill("my_metric")
    page.get_by_role("option", name=TAG, exact=True).click()
    wait_charts(page, f"training.{TAG}")
    page.wait_for_url("**my_metric**")
    page.goto(page.url)
    wait_charts(page, "training.loss", f"training.{TAG}")
    assert page.locator('[data-testid="stException"]').count() == 0
    page.close()
