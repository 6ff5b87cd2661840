"""The Compare page in a real Chromium: every side of it, its states, its address, what is picked, saved and pushed."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from shared.schema import RunState
from shared.writer import JsonlWriter
from tests.browser.driving import dashboard, open_tab, theme
from tests.browser.looking import EVIL, NEEDS_CHROMIUM, TABLES, check, drag, picture, place, wait_charts
from tests.compared import compared_run, sweep
from tests.run_factory import make_run, training_row

pytestmark = NEEDS_CHROMIUM
SCROLL = f'{TABLES}, .stTabs [role=tablist], .stButtonGroup, .st-key-compare-drawing, [data-chart="parallel"]'
"""What is wider than a telephone and scrolls by itself."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    sweep(folder)
    make_run(folder, "healthy", steps=1000)
    make_run(folder, "collapsed", steps=900, collapse=True)
    make_run(folder, "growing", steps=300, state=RunState.RUNNING)
    make_run(folder, EVIL, steps=120)
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def address(address: str) -> str:
    return f"{address}/compare"


def traces(page: Page, key: str) -> dict[str, str]:
    """Run to colour of its line."""
    script = """key => Object.fromEntries(document.querySelector(`[data-chart="${key}"] .js-plotly-plot`)._fullData
        .filter(trace => trace.meta).map(trace => [trace.meta, trace.line.color || trace.marker.color]))"""
    return page.evaluate(script, key)


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)])
def test_every_side_of_a_comparison(browser: Browser, address: str, width: int, dark: bool) -> None:
    name = f"{width}-{theme(dark)}"
    page = open_tab(browser, f"{address}?filter=loss.beta_max>0&run=healthy&run=collapsed", width=width, dark=dark)
    wait_charts(page, "training.loss")
    drawn = traces(page, "training.loss")
    assert {"healthy", "collapsed", "b0.1-s0", "b2.0-s2", EVIL} <= drawn.keys() and len(set(drawn.values())) == 8
    assert page.locator("img[src=x]").count() == 0, "a name is text"
    for run, sign in (("healthy", "✓"), ("collapsed", "✕")):
        expect(page.locator(f'[data-legend="{run}"] .sv-sign')).to_have_text(sign)
    check(page, f"compare-curves-{name}", but=SCROLL)
    for tab, shown in (("Results", "stDataFrame"), ("Settings", None), ("Relations", None), ("Export", None)):
        page.get_by_text(tab, exact=True).first.click()
        if tab == "Relations":
            wait_charts(page, "parallel")
            assert {label: drawn[label] for label in drawn} == traces(page, "parallel"), "a run has one colour"
        else:
            page.wait_for_selector(
                f'[data-testid="{shown}"]' if shown else {"Settings": ".sv-difference", "Export": ".sv-offer"}[tab]
            )
        check(page, f"compare-{tab.lower()}-{name}", but=SCROLL)
    assert "tab=export" in page.url and page.url.count("run=") == 2 and "filter=loss.beta_max" in page.url
    page.close()


def test_an_address_opens_the_same_view_elsewhere(browser: Browser, address: str) -> None:
    page = open_tab(browser, address)
    wait_charts(page, "training.loss")
    expect(page.locator(".sv-choice")).to_contain_text("the newest 5 with a log")
    assert page.url.count("run=") == 5, "what is shown can be shared"
    page.goto(f"{address}?filter=b*")
    wait_charts(page, "training.loss")
    page.get_by_text("Mean ± 1 sd", exact=True).click()
    expect(page.locator(".sv-run-legend")).to_contain_text("3 seeds: beta_max 2")
    page.get_by_text("Epoch", exact=True).click()
    page.wait_for_function("location.search.includes('x=epoch')")
    shared = page.url
    assert "group=sd" in shared
    other = open_tab(browser, shared)
    wait_charts(other, "training.loss")
    expect(other.locator(".sv-run-legend")).to_contain_text("3 seeds: beta_max 2")
    figure = "document.querySelector('[data-chart=\"training.loss\"] .js-plotly-plot')"
    assert other.evaluate(f"{figure}._fullLayout.xaxis.title.text") == "epoch"
    assert other.evaluate(f"{figure}._fullData.filter(trace => trace.fill === 'toself').length") == 2
    check(other, "compare-seeds", but=SCROLL)
    for opened in (page, other):
        opened.close()


def test_states_are_named(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}?run=gone&run=broken&run=../../etc&run=healthy&run=collapsed&x=onset")
    wait_charts(page, "training.loss")
    banners = page.locator(".sv-banners")
    for words in ("Not drawn: gone, ../../etc.", "Not drawn: broken.", "No place on this axis: healthy."):
        expect(banners).to_contain_text(words)
    assert list(traces(page, "training.loss")) == ["collapsed"]
    check(page, "compare-states", but=SCROLL)
    page.goto(f"{address}?filter=state:asleep")
    expect(page.locator(".sv-banners")).to_contain_text("no such state")
    expect(page.locator("[data-state=nothing]")).to_contain_text("Change the filter")
    page.goto(f"{address}?run=gone")
    expect(page.locator("[data-state=nothing]")).to_contain_text("Choose others above")
    page.close()


def test_runs_that_are_caught_in_a_box_can_be_kept(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}?filter=b*&tab=relations&across=loss.beta_max&up=training.loss")
    wait_charts(page, "scatter")
    page.locator('[data-chart="scatter"]').scroll_into_view_if_needed()
    box = place(page.locator('[data-chart="scatter"] .nsewdrag'))
    drag(page, box, (0.7 * box["width"], 5), (box["width"] - 2, 0.6 * box["height"]), steps=5)
    page.get_by_text("Keep only these 3 runs").click()
    page.wait_for_function("location.search.includes('run=b2.0-s0') && !location.search.includes('filter')")
    assert sorted(re.findall(r"run=([^&]+)", page.url)) == ["b2.0-s0", "b2.0-s1", "b2.0-s2"]
    page.close()


def test_a_run_that_goes_on_grows_in_place(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}?run=growing&run=healthy")
    wait_charts(page, "training.loss", "training.kl")
    page.evaluate("window.plot = document.querySelector('[data-chart=\"training.loss\"] .js-plotly-plot')")
    page.evaluate("window.still = document.querySelector('[data-chart=\"validation.auroc\"] .sv-plot').dataset.revision")
    assert page.evaluate("[...globalThis.seqsetStreams.values()].filter(stream => stream.source).length") <= 2, (
        "one connection for all runs"
    )
    JsonlWriter(runs / "growing" / "metrics.jsonl").write(301, training_row(301, np.random.default_rng(0)))
    page.wait_for_function("window.plot.isConnected && window.plot._fullData[0].x.at(-1) === 301")
    assert page.evaluate(
        "window.still === document.querySelector('[data-chart=\"validation.auroc\"] .sv-plot').dataset.revision"
    )
    page.hover('[data-legend="healthy"]')
    faded = "[...document.querySelectorAll('[data-chart=\"training.loss\"] .scatterlayer .trace')].map(trace => trace.style.opacity)"
    assert page.evaluate(faded) == ["0.08", ""], "the other run steps back"
    page.click('[data-legend="healthy"]')
    page.wait_for_url("**/live?run=healthy")
    page.close()


def test_what_is_saved(browser: Browser, address: str, runs: Path, tmp_path: Path) -> None:
    page = open_tab(browser, f"{address}?filter=b*&tab=export&metrics=losses")
    page.wait_for_selector(".sv-offer")
    for kind, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        with page.expect_download() as caught:
            page.click(f"[data-export={kind}]")
        caught.value.save_as(tmp_path / kind)
        frame = read(tmp_path / kind)
        assert len(frame[(frame["run"] == "b0.1-s0") & (frame["metric"] == "loss") & (frame["role"] == "training")]) == 100
    with page.expect_download() as caught:
        page.click("[data-export=report]")
    caught.value.save_as(tmp_path / "report.html")
    page.goto(f"{address}?run=healthy&run=collapsed&metrics=training.kl")
    wait_charts(page, "training.kl")
    page.hover('[data-chart="training.kl"]')
    with page.expect_download() as caught:
        page.click('[data-chart="training.kl"] [data-title="Save as SVG"]')
    caught.value.save_as(tmp_path / "chart.svg")
    picture = (tmp_path / "chart.svg").read_text()
    assert picture.startswith("<svg") and all(words in picture for words in ("healthy", "collapsed", "KL divergence"))
    page.close()
    open_report(browser, tmp_path / "report.html")


def open_report(browser: Browser, path: Path) -> None:
    """From the disk, with no network."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, offline=True)
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector('body[data-drawn="10"]')
    assert not problems and all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    assert page.locator(".main-svg .scatterlayer .trace").count() == 6 * 7, (
        "six runs, in five charts that have values and two of relations"
    )
    page.locator(".sv-sortable th", has_text="Total loss, training").first.click()
    first = page.locator(".sv-sortable tbody tr").first
    expect(first).to_contain_text("b2.0-s2")
    page.hover('[data-legend="b0.1-s0"]')
    faded = [page.locator(".sv-plot").first.locator(".scatterlayer .trace").nth(at).get_attribute("style") for at in range(6)]
    assert sum("opacity: 0.08" in (style or "") for style in faded) == 5, "all but the one pointed at"
    picture(page, "compare-report", full_page=True)
    context.close()


def test_runs_appear_by_themselves(browser: Browser, tmp_path: Path) -> None:
    """The first run of all, and one that a filter finds while the page is open."""
    (tmp_path / "runs").mkdir()
    with dashboard(tmp_path / "runs") as served:
        page = open_tab(browser, f"{served}/compare")
        expect(page.locator("[data-state=landing]")).to_contain_text("make demo")
        compared_run(tmp_path / "runs", "first", steps=60)
        wait_charts(page, "training.loss")
        assert "run=first" in page.url
        page.goto(f"{served}/compare?filter=*r*")
        expect(page.locator(".sv-run-entry")).to_have_count(1)
        compared_run(tmp_path / "runs", "third", steps=60)
        expect(page.locator(".sv-run-entry")).to_have_count(2)
        page.close()
