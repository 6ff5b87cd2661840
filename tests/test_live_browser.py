"""The Live page in a real Chromium: zoom that moves all charts and is exact, the crosshair, the axis, remedies and console."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from shared.schema import RunState
from shared.writer import encode_line
from tests.browser.driving import dashboard, open_tab
from tests.browser.looking import NEEDS_CHROMIUM, check, drag, place, settled, wait_charts
from tests.run_factory import make_run

pytestmark = NEEDS_CHROMIUM
STEPS = 30_000
PLOT = "document.querySelector('[data-chart={key}] .js-plotly-plot')"
HELD_UP = """
import sys, time
from pathlib import Path
class Gate:
    def find_spec(self, name, path=None, target=None):
        while name == "dashboard.application" and not (Path(__file__).parent / "open").exists():
            time.sleep(0.01)
sys.meta_path.insert(0, Gate())
"""
"""Python carries out a module `sitecustomize` before all else: this one keeps the application from being loaded until it may be."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    layout = make_run(runs, "long", steps=600)
    rows = ({"loss": 2.0, "recon": step % 7, "kl": 1 + step % 5, "grad_norm": 1.0, "epoch": step / 1000, "time": 1.76e9 + step}
            for step in range(1, STEPS + 1))  # fmt: skip
    layout.metrics.write_bytes(b"".join(encode_line(step, row) for step, row in enumerate(rows, start=1)))
    collapsed = make_run(runs, "collapsed", steps=900, collapse=True, state=RunState.RUNNING)
    collapsed.console.write_bytes(b"\x1b[1mepoch 0\x1b[0m\n10 %\r20 %\r<b>bold</b> words\n")
    return runs


def test_zoom_moves_all_charts_at_full_resolution(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/live?run=long&axis=Epoch&smooth=100")
    wait_charts(page, "kl", "recon")
    assert page.evaluate(f"{PLOT.format(key='kl')}._fullData[0].x.length") <= 2000
    settled(page)
    box = place(page.locator("[data-chart=kl] .nsewdrag"))
    drag(page, box, (0.50 * box["width"], 40), (0.52 * box["width"], 42))
    for key in ("kl", "recon"):
        page.wait_for_function(
            f"(() => {{ const p = {PLOT.format(key=key)}, x = p._fullData[0].x, [a, b] = p._fullLayout.xaxis.range;"
            " return b - a < 1 && x.length > 300 && x[1] - x[0] < 0.0011 && x[0] >= a - 0.01 && x.at(-1) <= b + 0.01; })()"
        )
    smooth = page.evaluate(f"{PLOT.format(key='recon')}._fullData[1].name")
    assert "mean of about 100 steps" in smooth
    page.locator("[data-chart=recon] .nsewdrag").dblclick()
    page.wait_for_function(f"{PLOT.format(key='kl')}._fullLayout.xaxis.range[1] > 20")
    page.wait_for_function(f"{PLOT.format(key='kl')}._fullData[0].x.length > 1500")
    page.close()


def test_a_crosshair_shows_the_values_of_all_charts(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/live?run=long")
    wait_charts(page, "kl", "recon")
    box = place(page.locator("[data-chart=kl] .nsewdrag"))
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    expect(page.locator("[data-chart=recon] .sv-cross")).to_be_visible()
    expect(page.locator("[data-chart=recon] .sv-card-head span").first).to_contain_text("training ")
    page.mouse.move(5, 5)
    expect(page.locator("[data-chart=recon] .sv-cross")).to_be_hidden()
    page.close()


FAR = {
    "Losses": "loss",
    "Outcome prediction": "auroc",
    "Use of the latent": "decoder_reliance",
    "Schedule": "lr",
    "Timing": "step_s",
}
"""Headings below the first screen, and a chart under each."""


@pytest.mark.parametrize("width", [1440, 390])
def test_what_is_scrolled_to_is_drawn(browser: Browser, address: str, width: int) -> None:
    """As a reader comes to it, in a window of ordinary height: sections that are far away are not drawn yet."""
    page = open_tab(browser, f"{address}/live?run=collapsed", width=width)
    wait_charts(page, "kl")
    assert page.locator("[data-chart=step_s] .js-plotly-plot").count() == 0, "or nothing is tested"
    for section, key in FAR.items():
        page.get_by_role("heading", name=section).scroll_into_view_if_needed()
        expect(page.locator(f"[data-chart={key}] .js-plotly-plot")).to_be_visible()
    page.close()


def test_a_collapse_offers_its_remedies_and_the_console_is_text(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/live?run=collapsed")
    wait_charts(page, "kl")
    page.get_by_text("Resume with a remedy").click()
    expect(page.locator('[data-testid="stExpanderDetails"] [data-testid="stCode"]')).to_contain_text("--remedy")
    assert page.get_by_role("button", name="Resume with this remedy").count() == 0, "nothing starts without --allow-jobs"
    page.set_viewport_size({"width": 1440, "height": 5200})
    expect(page.get_by_text("<b>bold</b> words")).to_be_visible()
    expect(page.get_by_text("20 %")).to_have_count(0)
    page.close()


def test_the_first_page_begins_while_the_server_loads_and_then_shows_its_curves(browser: Browser, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "first", steps=300)
    (tmp_path / "sitecustomize.py").write_text(HELD_UP)
    with dashboard(tmp_path / "runs", env={"PYTHONPATH": str(tmp_path)}) as address:
        page = open_tab(browser, f"{address}/live?run=first")  # returns when the document and its scripts are there
        page.wait_for_function("globalThis.Plotly && document.querySelector('#root').childElementCount > 0")
        assert page.locator(".sv-head").count() == 0, "the application is not there yet"
        (tmp_path / "open").touch()
        wait_charts(page, "kl", "recon")
        assert page.evaluate(f"{PLOT.format(key='kl')}._fullData[0].x.at(-1)") == 300
        check(page, "live-first-page-1440-light")
        page.close()
