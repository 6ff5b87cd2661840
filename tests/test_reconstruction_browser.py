"""The Reconstruction page in a real Chromium: what it shows, what a click does to the address, and that it follows the run."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.layout import RunLayout
from shared.schema import RunState
from tests.browser.driving import open_tab, theme
from tests.browser.looking import NEEDS_CHROMIUM, TABLES, check, place, settled, wait_charts
from tests.reconstruction_factory import CONSTANT, events, write, write_step
from tests.run_factory import make_run

pytestmark = NEEDS_CHROMIUM
CHARTS = (
    "ranking",
    "over",
    "distribution",
    "by-time",
    "by-frequency",
    "coverage",
    "pit",
    "z",
    "record",
    "presence",
    "reliability",
    "skill",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstructed")
    whole = make_run(folder, "whole", steps=60)
    for step, left in ((100, 0.9), (200, 0.7), (300, 0.5)):
        write_step(whole, step, events(left=left, claimed=left, seed=step))
    write(whole.analysed("reconstruction", "final_step-000000300"), events(claimed=0.4))
    bare = make_run(folder, "bare", steps=60)
    write_step(bare, 100, events(), with_presence=False)
    bare.reconstruction(200).write_bytes(b"torn")
    make_run(folder, "young", steps=60, state=RunState.RUNNING)
    return folder


@pytest.fixture(scope="module")
def address(address: str) -> str:
    return f"{address}/reconstruction"


def shown_steps(page: Page) -> str:
    return page.locator(".sv-section", has_text="Error by variable").inner_text()


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_a_snapshot_is_shown_whole(browser: Browser, address: str, width: int, dark: bool) -> None:
    page = open_tab(browser, f"{address}?run=whole&variable=HR&variable=Temp&patient=p3", width=width, dark=dark)
    page.wait_for_selector("[data-chart=ranking]")
    page.set_viewport_size({"width": width, "height": 4300 if width > 400 else 7600})
    wait_charts(page, *CHARTS)
    assert CONSTANT in page.locator(".sv-banners").inner_text(), "what is not reconstructed is named"
    expect(page.locator("[data-chart=record] h3")).to_have_text("Record of p3")
    assert "step 300" in shown_steps(page)
    check(page, f"reconstruction-{width}-{theme(dark)}", but=TABLES)
    page.close()


def click_point(page: Page, chart: str, index: int) -> None:
    """Click a point of the last trace of a chart, once nothing moves it any more.

    One move: Plotly looks again 50 ms after a second, and forgets what it showed where the button is down by then.
    """
    settled(page)
    page.locator(f"[data-chart={chart}]").scroll_into_view_if_needed()
    point = page.locator(f"[data-chart={chart}] .scatterlayer .trace").last.locator(".point").nth(index)
    box = place(point)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(f"[data-chart={chart}] .hoverlayer > g")
    page.mouse.down()
    page.mouse.up()


def test_clicks_are_kept_in_the_address_and_what_is_new_is_followed(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}?run=whole&variable=HR")
    wait_charts(page, "ranking", "over")
    page.evaluate("window.plot = document.querySelector('[data-chart=over] .js-plotly-plot')")
    click_point(page, "ranking", 0)
    page.wait_for_url("**variable=HR&variable=*")
    click_point(page, "over", 1)
    page.wait_for_url("**source=step-200*")
    expect(page.locator(".sv-section", has_text="Error by variable")).to_contain_text("step 200")
    layout = RunLayout(runs / "whole")
    write_step(layout, 400, events(left=0.3, claimed=0.3, seed=400))
    page.wait_for_function("window.plot._fullData[0].x.length === 4")
    assert "step 200" in shown_steps(page), "a snapshot that was chosen stays"
    assert page.evaluate("window.plot.isConnected"), "updated in place"
    click_point(page, "over", 3)
    expect(page.locator(".sv-section", has_text="Error by variable")).to_contain_text("step 400")
    page.wait_for_url(lambda url: "source=" not in url)
    write_step(layout, 500, events(left=0.2, claimed=0.2, seed=500))
    expect(page.locator(".sv-section", has_text="Error by variable")).to_contain_text("step 500")
    page.close()


def test_a_click_on_a_patient_opens_the_record(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}?run=whole")
    page.set_viewport_size({"width": 1440, "height": 4300})
    wait_charts(page, *CHARTS)
    first = page.locator("[data-chart=record] h3").inner_text()
    page.locator('[data-testid="stDataFrame"]').nth(1).click(position={"x": 18, "y": 38 + 35 + 15})
    page.wait_for_url("**patient=p*")
    expect(page.locator("[data-chart=record] h3")).not_to_have_text(first)
    page.get_by_role("combobox", name="Values of").click()
    page.get_by_role("option", name="Temp").click()
    expect(page.locator("[data-chart=pit] .sv-card-head span")).to_contain_text("Temp")
    page.wait_for_url("**of=Temp**")
    page.close()


def test_a_checkpoint_that_was_looked_into_can_be_chosen(browser: Browser, address: str) -> None:
    page = open_tab(browser, f"{address}?run=whole&source=checkpoint-final_step-000000300")
    wait_charts(page, "ranking")
    assert "checkpoint final_step-000000300" in shown_steps(page)
    page.locator("[data-state=no-presence]").scroll_into_view_if_needed()
    expect(page.locator("[data-state=no-presence]")).to_contain_text("older release")
    page.close()


def test_what_is_missing_is_said(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}?run=bare")
    expect(page.locator(".sv-banners").first).to_contain_text("step-000000200.parquet: no readable parquet")
    check(page, "reconstruction-unreadable", but=TABLES)
    page.goto(f"{address}?run=bare&source=step-100")
    expect(page.locator(".sv-banners").first).to_contain_text("No uncertainty")
    wait_charts(page, "ranking")
    expect(page.locator(".sv-banners", has_text="Some snapshots")).to_contain_text("step-000000200.parquet")
    assert page.locator("[data-chart=coverage]").count() == 0
    check(page, "reconstruction-no-uncertainty", but=TABLES)
    page.goto(f"{address}?run=young")
    expect(page.locator("[data-state=no-snapshot]")).to_contain_text("after step 100")
    check(page, "reconstruction-none-yet", but=TABLES)
    write_step(RunLayout(runs / "young"), 200, events(claimed=0.5))
    wait_charts(page, "ranking")
    page.goto(f"{address}?run=../../etc")
    expect(page.locator("[data-state=gone]")).to_contain_text("This run is not here")
    page.close()
