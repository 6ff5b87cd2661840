"""The listener of the pages by itself in a real Chromium: a tab that is kept open for weeks holds only what it listens to."""

import base64
from typing import Any

from playwright.sync_api import Browser, Page

from dashboard.components import FRONTEND
from tests.browser.looking import NEEDS_CHROMIUM

pytestmark = NEEDS_CHROMIUM
STAGE = """source => {
  globalThis.opened = [];
  globalThis.EventSource = class {
    static CLOSED = 2;
    constructor(url) { this.url = url; this.readyState = 1; opened.push(this); }
    close() { this.readyState = 2; }
  };
  globalThis.listening = 0;
  const { addEventListener, removeEventListener } = document;
  const known = new Set();
  document.addEventListener = (kind, listener) => { known.add(listener); addEventListener.call(document, kind, listener); };
  document.removeEventListener = (kind, listener) => { known.delete(listener); removeEventListener.call(document, kind, listener); };
  globalThis.held = () => [seqsetStreams.size, known.size, opened.filter(one => one.readyState === 1).map(one => one.url)];
  return import(source).then(({ default: mount }) => {
    globalThis.mounted = (name, url) => {
      const element = document.getElementById(name) ?? document.body.appendChild(Object.assign(document.createElement("p"), { id: name }));
      return mount({ parentElement: element, data: { url, watch: "head", seen: "x", every: 0 }, setTriggerValue() {} });
    };
  });
}"""


def held(page: Page) -> Any:
    """Addresses known, listeners on the document, and connections open."""
    return page.evaluate("held()")


def test_a_tab_lets_go_of_runs_that_it_no_longer_shows(browser: Browser) -> None:
    code = base64.b64encode((FRONTEND / "push.js").read_bytes()).decode()
    page = browser.new_page()
    page.evaluate(STAGE, f"data:text/javascript;base64,{code}")
    page.evaluate("void (globalThis.leave = mounted('head', 'push?run=0'))")
    for number in range(1, 30):  # the same fragment, for one run after the other
        page.evaluate(f"void (globalThis.leave = mounted('head', 'push?run={number}'))")
    assert held(page) == [1, 2, ["push?run=29"]]
    page.evaluate("void (globalThis.other = mounted('charts', 'push?run=29'))")
    page.evaluate("leave()")
    assert held(page) == [1, 2, ["push?run=29"]], "the charts still listen"
    page.evaluate("other()")
    assert held(page) == [0, 0, []]
    page.evaluate("void (globalThis.leave = mounted('head', 'push?run=29'))")
    assert held(page) == [1, 2, ["push?run=29"]], "and again"
    page.close()
