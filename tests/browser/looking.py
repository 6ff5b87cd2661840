"""What every test of a page looks for and does in the browser, and what marks such a test."""

import pytest
from playwright.sync_api import FloatRect, Locator, Page

from tests.browser.driving import ROOT, find_chromium

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium or Chrome on the PATH; `make test` installs one"),
]
ARTIFACTS = ROOT / "test-artifacts"
"""Pictures for people to look at."""
EVIL = "<img src=x onerror=alert(1)>"
"""A name that is markup, where markup is not expected."""
TOO_WIDE = """but => Math.max(0, ...[...document.querySelectorAll('html, body, main, main *')]
  .filter(element => !but || !element.closest(but)).map(element => element.scrollWidth - innerWidth))"""
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""
TABLES = ".stDataFrame"
"""Tables, which scroll inside themselves."""


def check(page: Page, name: str, *, but: str = "", full_page: bool = False) -> None:
    """No exception box, nothing wider than the window but what lies in `but`, a CSS selector; and a picture of that name."""
    assert page.locator('[data-testid="stException"]').count() == 0
    overflow = page.evaluate(TOO_WIDE, but)
    assert overflow <= 0, f"{name} is {overflow} px too wide"
    picture(page, name, full_page=full_page)


def picture(page: Page, name: str, *, full_page: bool = False) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=full_page)


def wait_charts(page: Page, *keys: str) -> None:
    """Wait until the charts of these keys are drawn; each must be near the screen to be drawn at all."""
    for key in keys:
        page.wait_for_selector(f'[data-chart="{key}"] .sv-plot[data-revision] .main-svg')


def settled(page: Page) -> None:
    """Wait until the script of the page has run and the browser has drawn what it made: then clicks find their listeners."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 200)))")


def place(found: Locator) -> FloatRect:
    """Where it lies in the window, in px."""
    box = found.bounding_box()
    assert box is not None, "it is not on the page"
    return box


def drag(page: Page, box: FloatRect, start: tuple[float, float], end: tuple[float, float], *, steps: int = 4) -> None:
    """Press the mouse at `start` and let it go at `end`, both in px from the upper left corner of `box`."""
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=steps)
    page.mouse.up()
