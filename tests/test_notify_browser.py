"""The bell in a real browser: toasts in every tab and once, notifications of the browser on request, one connection for all tabs."""

from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect

from shared.collapse import Verdict
from shared.schema import RunState
from tests.browser.driving import dashboard, theme
from tests.browser.looking import EVIL, HIDE, NEEDS_CHROMIUM, picture, place
from tests.run_factory import make_run
from tests.test_notify import COLLAPSE, become, tell
from tests.test_notify_webhook import webhook

pytestmark = NEEDS_CHROMIUM
RECORD = """
  globalThis.rung = [];
  globalThis.Notification = class {
    static permission = 'default';
    static requestPermission() { this.permission = 'granted'; return Promise.resolve('granted'); }
    constructor(title, options) { globalThis.rung.push([title, options.body]); }
  };
"""


def open_tab(context: BrowserContext, address: str) -> Page:
    """A tab whose bell knows what there is."""
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("globalThis.seqsetBell?.met === true")
    return page


def toasts(page: Page):
    return page.locator(".sv-toasts .sv-notice")


def test_a_notice_reaches_every_tab_once(browser: Browser, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run, other = (make_run(runs, name, steps=60, state=RunState.RUNNING, age=timedelta(minutes=5)) for name in ("mine", EVIL))
    with webhook(500) as server, dashboard(runs, "--notify-webhook", server.url) as address:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_init_script(RECORD)
        first, second = open_tab(context, address), open_tab(context, f"{address}/jobs")
        streams = "[globalThis.seqsetBell.source !== null].filter(Boolean).length"
        assert first.evaluate(streams) + second.evaluate(streams) == 1, "one tab listens for both"
        tell(run, COLLAPSE)
        for page in (first, second):
            expect(toasts(page)).to_contain_text("Posterior collapse")
        tell(run, COLLAPSE)
        become(other, RunState.FAILED, f"out of memory {EVIL}")
        for page in (first, second):
            expect(toasts(page)).to_have_count(2)
            assert page.locator(".sv-bell-root img").count() == 0
        assert first.locator("[role=alert] .sv-notice").count() == 2, "an alarm is read out at once, and stays"
        check_reload_dismiss_and_link(first)
        check_panel(second)
        check_ringing(first, second, lambda: tell(run, Verdict("spike", "warning", "Instability", "Seven spikes.", began=70)))
        late = open_tab(context, address)
        assert toasts(late).count() == 0, "a new tab does not repeat the past"
        context.close()


def check_reload_dismiss_and_link(page: Page) -> None:
    toasts(page).first.get_by_role("button", name="Dismiss").click()
    expect(toasts(page)).to_have_count(1)
    page.reload()
    page.wait_for_function("globalThis.seqsetBell?.met === true")
    assert toasts(page).count() == 0
    page.get_by_role("button", name="Notices").click()
    page.locator(".sv-bell-panel").get_by_role("link", name="mine").first.click()
    page.wait_for_url("**/live?run=mine")
    page.wait_for_selector(".sv-head")


def check_panel(page: Page) -> None:
    """By keyboard: opens, lists the newest first, names what was not delivered, closes and gives the focus back."""
    bell = page.get_by_role("button", name="Notices, 2 new")
    bell.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="Notices")
    expect(panel.locator(".sv-notice strong")).to_have_text(["Training failed", "Posterior collapse"])
    expect(panel.get_by_text("Not delivered: webhook at 127.0.0.1: answered 500")).to_be_visible()
    expect(toasts(page)).to_have_count(0)
    for width, dark in ((1440, False), (390, True)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme(dark))
        box = place(panel)
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        picture(page, f"notices-{width}-{theme(dark)}")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert page.evaluate("document.activeElement.classList.contains('sv-bell')")


def check_ringing(first: Page, second: Page, happen) -> None:
    """Off until somebody switches it on; then the tab that listens rings, though no tab is looked at."""
    second.get_by_role("button", name="Notices").click()
    switch = second.get_by_role("switch")
    expect(switch).not_to_be_checked()
    switch.check()
    expect(switch).to_be_checked()
    for page in (first, second):
        page.evaluate("Notification.permission = 'granted'")
        page.evaluate(HIDE, True)
    happen()
    for page in (first, second):
        expect(toasts(page).filter(has_text="Instability")).to_have_count(1)
    rung = first.evaluate("rung") + second.evaluate("rung")
    assert rung == [["Instability: mine", "Seven spikes. Since step 70."]]
