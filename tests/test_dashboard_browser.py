"""The pages in a real Chromium, served by a real dashboard process: every state, light and dark, narrow and wide."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from shared.layout import RunLayout
from shared.schema import RunState
from shared.writer import JsonlWriter
from tests.browser.driving import dashboard, open_tab, theme
from tests.browser.looking import HIDE, NEEDS_CHROMIUM, check, drag, place, wait_charts
from tests.run_factory import beat, make_run, make_zoo, training_row

pytestmark = NEEDS_CHROMIUM
STATES = {
    "healthy-running": ("running", "Posterior healthy"),
    "collapsed-running": ("running", "Posterior collapse"),
    "physionet-finished": ("finished", "Posterior healthy"),
    "interrupted-by-user": ("interrupted", "--resume_from_checkpoint"),
    "failed-out-of-memory": ("failed", "CUDA out of memory: <b>tried</b>"),
    "stale-heartbeat": ("stale", "no heartbeat for"),
    "dead-process": ("dead", "--resume_from_checkpoint"),
    "nan-running": ("running", "NaN or infinity"),
    "torn-log": ("finished", "metrics.jsonl line 301"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    make_zoo(folder)
    return folder


@pytest.mark.parametrize("name", STATES)
def test_live_page_of_each_state(browser: Browser, address: str, name: str) -> None:
    state, words = STATES[name]
    page = open_tab(browser, f"{address}/live?run={name}")
    expect(page.locator(f".sv-head [data-state={state}]")).to_be_visible()
    expect(page.locator(".sv-banners")).to_contain_text(words)
    wait_charts(page, "kl")
    check(page, f"live-{name}-1440-light")
    page.close()


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)])
def test_live_page_in_both_themes_and_widths(browser: Browser, address: str, width: int, dark: bool) -> None:
    page = open_tab(browser, f"{address}/live?run=collapsed-running", width=width, dark=dark)
    page.wait_for_selector("[data-chart=kl]")
    page.set_viewport_size({"width": width, "height": 3600 if width > 400 else 7000})
    wait_charts(page, "kl", "active_units", "recon", "loss", "auroc", "lr", "step_s")
    check(page, f"live-{width}-{theme(dark)}", but=".st-key-live-drawing")
    page.close()


def test_a_click_opens_the_run_without_loading_the_page(browser: Browser, address: str) -> None:
    page = open_tab(browser, address)
    page.wait_for_selector("a[data-run=healthy-running]")
    page.evaluate("window.stillHere = true")
    page.click("a[data-run=healthy-running]")
    wait_charts(page, "kl")
    assert page.url.endswith("/live?run=healthy-running") and page.evaluate("window.stillHere") is True
    page.get_by_label("Run", exact=True).click()
    page.get_by_role("option", name="dead-process").click()
    expect(page.locator(".sv-head [data-state=dead]")).to_be_visible()
    assert page.url.endswith("run=dead-process"), "the address names what is shown"
    page.close()


def test_names_that_are_no_run(browser: Browser, address: str) -> None:
    page = open_tab(browser, address)
    for name in ("../../etc", "no-such-run"):
        page.goto(f"{address}/live?run={name}")
        expect(page.locator("[data-state=gone]")).to_contain_text("This run is not here")
        check(page, f"gone-{len(name)}")
    page.close()


def test_broken_run_says_why(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}/live?run=broken-json")
    expect(page.locator(".sv-banners")).to_contain_text("not valid JSON")
    check(page, "broken-json")
    page.close()


def ranges(page: Page) -> list[float]:
    return page.evaluate("document.querySelector('[data-chart=kl] .js-plotly-plot')._fullLayout.xaxis.range")


def zoom(page: Page) -> None:
    drag(page, place(page.locator("[data-chart=kl] .nsewdrag")), (80, 40), (200, 110))
    page.wait_for_function("document.querySelector('[data-chart=kl] .js-plotly-plot')._fullLayout.xaxis.autorange === false")


def test_a_step_reaches_number_and_chart_and_zoom_stays(browser: Browser, address: str, runs: Path) -> None:
    layout = make_run(runs, "growing", steps=400, state=RunState.RUNNING)
    page = open_tab(browser, f"{address}/live?run=growing")
    wait_charts(page, "kl", "recon")
    zoom(page)
    before = ranges(page)
    page.evaluate("window.plot = document.querySelector('[data-chart=kl] .js-plotly-plot')")
    scroll = page.evaluate("document.querySelector('[data-chart=kl]').getBoundingClientRect().top")
    JsonlWriter(layout.metrics).write(401, training_row(401, np.random.default_rng(0)))
    expect(page.locator("[data-metric=step]")).to_have_text("401")
    page.wait_for_function("window.plot.dataset.revision.includes('-401-')", timeout=60_000)  # a slow machine draws less often
    assert page.evaluate("window.plot._fullData[0].x.at(-1)") < 401, "at the resolution of the part that is looked at"
    assert ranges(page) == before, "zoom is kept"
    assert page.evaluate("window.plot.isConnected"), "updated in place, not drawn anew"
    assert page.evaluate("document.querySelector('[data-chart=kl]').getBoundingClientRect().top") == scroll, "nothing jumps"
    page.get_by_text("Linear", exact=True).click()
    page.wait_for_function("window.plot._fullLayout.yaxis.type === 'linear'")
    page.close()
    shutil.rmtree(layout.root)


def test_life_of_a_run_on_an_open_page(browser: Browser, tmp_path: Path) -> None:
    """No run; created; first step; gone: each by itself, without a reload."""
    with dashboard(tmp_path / "runs") as address:
        page = open_tab(browser, address)
        expect(page.locator("[data-state=landing]")).to_contain_text("make demo")
        check(page, "landing")
        layout = make_run(tmp_path / "runs", "first", state=RunState.CREATED, age=timedelta(0))
        page.click("a[data-run=first]")
        expect(page.locator("[data-state=waiting]")).to_be_visible()
        check(page, "waiting")
        become_running(layout)
        wait_charts(page, "kl")
        expect(page.locator(".sv-head [data-state=running]")).to_be_visible()
        shutil.rmtree(layout.root)
        expect(page.locator("[data-state=gone]")).to_be_visible()
        check(page, "gone-while-open")
        page.close()


def become_running(layout: RunLayout) -> None:
    writer, rng = JsonlWriter(layout.metrics), np.random.default_rng(0)
    for step in range(1, 30):
        writer.write(step, training_row(step, rng))
    writer.close()
    text = layout.run_json.read_text().replace('"state": "created"', '"state": "running"')
    temporary = layout.root / ".run.json.tmp"
    temporary.write_text(text)
    temporary.replace(layout.run_json)
    beat(layout, 29, pid=os.getpid())


def test_hidden_tab_costs_nothing_and_catches_up(browser: Browser, address: str, runs: Path) -> None:
    layout = make_run(runs, "hidden", steps=50, state=RunState.RUNNING)
    page = open_tab(browser, f"{address}/live?run=hidden")
    expect(page.locator("[data-metric=step]")).to_have_text("50")
    page.wait_for_function("globalThis.seqsetStreams?.values().next().value?.source?.readyState === 1")
    page.evaluate(HIDE, True)
    assert page.evaluate("[...globalThis.seqsetStreams.values()].every(stream => stream.source === null)")
    JsonlWriter(layout.metrics).write(51, training_row(51, np.random.default_rng(0)))
    page.evaluate(HIDE, False)
    expect(page.locator("[data-metric=step]")).to_have_text("51")
    page.close()
    shutil.rmtree(layout.root)
