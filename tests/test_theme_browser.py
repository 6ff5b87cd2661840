"""The theme of an open page changes, as at dusk: its charts follow at once, and keep what was zoomed into."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.driving import open_page, theme
from tests.browser.looking import NEEDS_CHROMIUM, drag, place
from tests.run_factory import make_run

pytestmark = NEEDS_CHROMIUM
WORDS = "getComputedStyle(document.querySelector('[data-chart] .ytick text')).fill"
ZOOM = "document.querySelector('[data-chart] .js-plotly-plot')._fullLayout.xaxis.range"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for name in "ab":
        make_run(runs, name, steps=200)
    return runs


@pytest.mark.parametrize("view", ["live?run=a", "compare?run=a&run=b"])
def test_charts_of_an_open_page_follow_its_theme(browser: Browser, address: str, view: str) -> None:
    page = open_page(browser, f"{address}/{view}")
    page.wait_for_selector("[data-chart] .sv-plot[data-revision] .ytick")
    light = page.evaluate(WORDS)
    page.locator("[data-chart] .nsewdrag").first.hover()  # waits until it stands still
    box = place(page.locator("[data-chart] .nsewdrag").first)
    drag(page, box, (0.2 * box["width"], 40), (0.4 * box["width"], 42))
    page.wait_for_function(f"(([low, high]) => high - low < 100)({ZOOM})")
    zoomed = page.evaluate(ZOOM)
    for dark in (True, False):
        page.emulate_media(color_scheme=theme(dark))
        page.wait_for_function(f"({WORDS} !== '{light}') === {str(dark).lower()}")
        assert page.evaluate(ZOOM) == zoomed
    assert page.locator('[data-testid="stException"]').count() == 0
    page.context.close()
