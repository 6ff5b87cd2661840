"""The Live page in a real Chromium: zoom that moves all charts and is exact, the crosshair, the axis, remedies and console."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.schema import RunState
from shared.writer import encode_line
from tests.browser.driving import chromium, dashboard, find_chromium, open_tab
from tests.run_factory import make_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium or Chrome on the PATH; `make test` installs one"),
]
STEPS = 30_000
PLOT = "document.querySelector('[data-chart={key}] .js-plotly-plot')"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runs = tmp_path_factory.mktemp("runs")
    layout = make_run(runs, "long", steps=600)
    rows = ({"loss": 2.0, "recon": step % 7, "kl": 1 + step % 5, "grad_norm": 1.0, "epoch": step / 1000, "time": 1.76e9 + step}
            for step in range(1, STEPS + 1))  # fmt: skip
    layout.metrics.write_bytes(b"".join(encode_line(step, row) for step, row in enumerate(rows, start=1)))
    collapsed = make_run(runs, "collapsed", steps=900, collapse=True, state=RunState.RUNNING)
    collapsed.console.write_bytes(b"\x1b[1mepoch 0\x1b[0m\n10 %\r20 %\r<b>bold</b> words\n")
    with dashboard(runs) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def drawn(page: Page, *keys: str) -> None:
    for key in keys:
        page.wait_for_selector(f"[data-chart={key}] .sv-plot[data-revision] .main-svg", timeout=30_000)


def test_zoom_moves_all_charts_at_full_resolution(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/live?run=long&axis=Epoch&smooth=100")
    drawn(page, "kl", "recon")
    assert page.evaluate(f"{PLOT.format(key='kl')}._fullData[0].x.length") <= 2000
    box = page.locator("[data-chart=kl] .nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.50 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.52 * box["width"], box["y"] + 42, steps=4)
    page.mouse.up()
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
    drawn(page, "kl", "recon")
    box = page.locator("[data-chart=kl] .nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    expect(page.locator("[data-chart=recon] .sv-cross")).to_be_visible()
    expect(page.locator("[data-chart=recon] .sv-card-head span").first).to_contain_text("training ")
    page.mouse.move(5, 5)
    expect(page.locator("[data-chart=recon] .sv-cross")).to_be_hidden()
    page.close()


def test_a_collapse_offers_its_remedies_and_the_console_is_text(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/live?run=collapsed")
    drawn(page, "kl")
    page.get_by_text("Resume with a remedy").click()
    expect(page.locator('[data-testid="stExpanderDetails"] [data-testid="stCode"]')).to_contain_text("--remedy")
    assert page.get_by_role("button", name="Resume with this remedy").count() == 0, "nothing starts without --allow-jobs"
    page.set_viewport_size({"width": 1440, "height": 5200})
    expect(page.get_by_text("<b>bold</b> words")).to_be_visible(timeout=15_000)
    expect(page.get_by_text("20 %")).to_have_count(0)
    page.close()
