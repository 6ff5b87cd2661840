"""The theme of an open page changes, as at dusk: its charts follow at once, and keep what was zoomed into."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.driving import chromium, dashboard, find_chromium, open_page
from tests.run_factory import make_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium or Chrome on the PATH; `make test` installs one"),
]
WORDS = "getComputedStyle(document.querySelector('[data-chart] .ytick text')).fill"
ZOOM = "document.querySelector('[data-chart] .js-plotly-plot')._fullLayout.xaxis.range"


def test_charts_of_an_open_page_follow_its_theme(tmp_path: Path) -> None:
    for name in "ab":
        make_run(tmp_path, name, steps=200)
    with dashboard(tmp_path) as address, chromium() as browser:
        for view in ("live?run=a", "compare?run=a&run=b"):
            _follow(browser, f"{address}/{view}")


def _follow(browser: Browser, address: str) -> None:
    page = open_page(browser, address)
    page.wait_for_selector("[data-chart] .sv-plot[data-revision] .ytick", timeout=30_000)
    light = page.evaluate(WORDS)
    plot = page.locator("[data-chart] .nsewdrag").first.bounding_box()
    assert plot is not None
    page.mouse.move(plot["x"] + 0.2 * plot["width"], plot["y"] + 40)
    page.mouse.down()
    page.mouse.move(plot["x"] + 0.4 * plot["width"], plot["y"] + 42, steps=4)
    page.mouse.up()
    page.wait_for_function(f"(([low, high]) => high - low < 100)({ZOOM})")
    zoomed = page.evaluate(ZOOM)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.wait_for_function(f"({WORDS} === '{light}') === {str(scheme == 'light').lower()}", timeout=2000)
        assert page.evaluate(ZOOM) == zoomed
    assert page.locator('[data-testid="stException"]').count() == 0
