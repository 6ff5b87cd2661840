"""Zooming in Compare asks for that part of each run at full resolution, along whatever axis the runs are aligned."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard.charts import Look
from dashboard.compare.cards import chart
from dashboard.compare.config import groups
from dashboard.compare.curves import onset
from dashboard.compare.parts import MOST_LINES, PATH, part_route
from dashboard.compare.view import View
from dashboard.live.windows import Windows
from dashboard.runs import curves
from dashboard.runs.loading import Store
from shared.collapse import Verdict
from shared.schema import Event
from shared.verdicts import verdict_data
from shared.writer import JsonlWriter
from tests.browser.driving import find_chromium, open_tab
from tests.browser.looking import drag, place, wait_charts
from tests.compared import compared_run, loaded

STEPS = 20_000
LOSS = ("training", "loss")


def long_run(runs: Path, name: str, offset: int) -> None:
    rows = [
        {"step": step, "loss": float(step % 97 + offset), "epoch": step / 1000, "time": 1.7e9 + 2 * step}
        for step in range(1, STEPS + 1)
    ]
    layout = compared_run(runs, name, rows=rows, steps=100)
    writer = JsonlWriter(layout.events)
    verdict = Verdict("collapse", "alarm", "Posterior collapse", "", began=5000)
    writer.write_record(Event(step=5000, kind="verdict", message=verdict.title, data=verdict_data(verdict)))
    writer.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("a", "b, c")):
        long_run(runs, name, 1000 * number)
    return runs


@pytest.fixture
def client(runs: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(curves, "MOST_POINTS", 2000)  # in memory, of 20,000 steps
    return TestClient(Starlette(routes=[part_route(Store(runs, lambda _name: 1).snapshot, Windows())]))


@pytest.mark.parametrize(
    ("x", "per", "low", "high"), [("step", 1, 9000, 9500), ("epoch", 1, 9, 9.5), ("time", 60, 17998 / 60, 18998 / 60)]
)
def test_a_part_of_several_runs_is_whole(client: TestClient, x: str, per: float, low: float, high: float) -> None:
    ways = [("metric", "training.loss"), ("x", x), ("per", per), ("from", low), ("to", high)]
    found = client.get(
        PATH, params=[*ways, ("curve", "0:a"), ("curve", "0:b, c"), ("curve", "500:a"), ("curve", "0:../a")]
    ).json()
    assert found[3] is None, "what is no run has no curve"
    places, values = np.array(found[0]["x"]), np.array(found[0]["y"])
    whole = {float(step % 97) for step in range(9001, 9500)}
    assert len(places) == len(values) and 500 <= len(places) <= 504 and whole == set(values)
    assert places[0] <= low <= places[2] and places[-3] <= high <= places[-1]
    assert found[1]["y"] == (values + 1000).tolist()
    assert np.allclose(found[2]["y"], 48, atol=8), "an average has a past"


def test_a_part_counted_from_the_onset(client: TestClient, runs: Path) -> None:
    first = onset(loaded(runs, "a").runs[0].snapshot)
    assert first == 5000
    ways = {"metric": "training.loss", "x": "onset", "per": "1", "curve": "0:a", "from": "100", "to": "110"}
    found = client.get(PATH, params=ways).json()[0]
    assert found["x"] == list(range(99, 112)) and found["y"] == [float((first + at) % 97) for at in found["x"]]


@pytest.mark.parametrize(
    "wrong", [{"x": "wall"}, {"per": "0"}, {"from": "nan"}, {"to": "-5"}, {"metric": "loss"}, {"curve": "a"}, {"curve": "-1:a"}]
)
def test_requests_that_make_no_sense_are_refused_in_words(client: TestClient, wrong: dict[str, str]) -> None:
    right = {"metric": "training.loss", "x": "step", "per": "1", "curve": "0:a", "from": "1", "to": "9"}
    assert client.get(PATH, params=right).status_code == 200
    refused = client.get(PATH, params=right | wrong)
    assert refused.status_code == 400 and "are wanted" in refused.text


def test_each_trace_of_a_chart_has_its_name_and_many_lines_have_none(runs: Path) -> None:
    found = loaded(runs).runs
    for view in (View(), View(smooth=100), View(x="time")):
        made = chart(groups(found, False), LOSS, view, Look())
        names = [f"{span}:{run}" for span in ((0, 100) if view.smooth else (0,)) for run in ("a", "b, c")]
        assert made.zoom["curves"] == names and len(made.figure["data"]) == len(names)
        assert "per=3600" in made.zoom["window"] if view.x == "time" else "per=1" in made.zoom["window"]
    many = [group for group in groups(found, False) for _ in range(MOST_LINES)]
    assert chart(many, LOSS, View(), Look()).zoom == {}


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium or Chrome on the PATH; `make test` installs one")
def test_zooming_shows_every_step_of_each_run(browser: Browser, address: str) -> None:
    plot = "document.querySelector('[data-chart=\"training.loss\"] .js-plotly-plot')"
    page = open_tab(browser, f"{address}/compare?run=a&run=b,+c&metrics=training.loss")
    wait_charts(page, "training.loss")
    assert page.evaluate(f"{plot}._fullData.every(trace => trace.x.length <= 2001)")
    page.get_by_label("Chosen metrics").wait_for()  # all that stands above the charts, and would move them
    page.locator(".nsewdrag").first.hover()  # waits until they stand still
    box = place(page.locator(".nsewdrag").first)
    drag(page, box, (0.50 * box["width"], 40), (0.53 * box["width"], 42))
    page.wait_for_function(
        f"(([low, high]) => high - low < 1000 && {plot}._fullData.length === 2 && {plot}._fullData.every("
        "({ x, y }) => x[1] - x[0] === 1 && x[0] >= low - 2 && x.at(-1) <= high + 2 && y[0] % 1000 === x[0] % 97))"
        f"({plot}._fullLayout.xaxis.range)"
    )
    assert page.locator('[data-testid="stException"]').count() == 0
    page.close()
