"""Signing in with a real browser, and pages that hold hostile text: it is shown, never run."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect

from shared.collapse import Verdict
from shared.layout import RunLayout
from shared.schema import Event, RunNotes, RunState
from shared.verdicts import verdict_data
from shared.writer import JsonlWriter, write_record
from tests.browser.driving import ROOT, dashboard
from tests.browser.looking import NEEDS_CHROMIUM, picture
from tests.oidc_provider import dashboard_with, provider
from tests.run_factory import make_run

pytestmark = NEEDS_CHROMIUM
TOKEN = "correct-horse-battery-staple"
HOSTILE = "<img src=x onerror=globalThis.struck=1>"
WORSE = f"{HOSTILE}</style></script><script>globalThis.struck=2</script>[link](javascript:globalThis.struck=3) `${{1}}` <svg onload=struck=4>"
PAGES = sorted(path.stem for path in (ROOT / "dashboard" / "app_pages").glob("*.py"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "runs"
    layout = make_run(folder, HOSTILE, steps=200, state=RunState.FAILED, error=WORSE)
    make_run(folder, "plain", steps=120)
    info = orjson.loads(layout.run_json.read_bytes())
    info["device"] = info["precision"] = info["dataset"]["name"] = info["dataset"]["source"] = WORSE
    info["config"]["data"] = {"note": WORSE}
    layout.run_json.write_bytes(orjson.dumps(info))
    write_record(layout.notes, RunNotes(tags=[WORSE, HOSTILE], note=WORSE))
    layout.console.write_text(f"{WORSE}\n" * 3)
    events(layout)
    return folder


def events(layout: RunLayout) -> None:
    writer = JsonlWriter(layout.events)
    verdict = Verdict("collapse", "alarm", WORSE, WORSE, began=50, cause=WORSE, advice=WORSE, remedies=(WORSE,))
    writer.write_record(Event(step=60, kind="verdict", message=WORSE, data=verdict_data(verdict)))
    writer.write_record(Event(step=61, kind="error", message=WORSE))
    writer.close()


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    with dashboard(runs, "--auth", "token", "--allow-jobs", env={"SEQSETVAE_TOKEN": TOKEN}) as address:
        yield address


def page_of(browser: Browser, **options: Any) -> tuple[Page, list[str]]:
    """A page of its own profile, and what its console complains about: a policy that is broken above all."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}, **options).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return page, said


@pytest.fixture(scope="module")
def unprotected(browser: Browser) -> Iterator[Page]:
    """A page with the token, and without the policy that would stop scripts: nothing must depend on that."""
    page, _ = page_of(browser, bypass_csp=True, extra_http_headers={"Authorization": f"Bearer {TOKEN}"})
    yield page
    page.context.close()


def settled(page: Page) -> None:
    """The page is drawn, and no script of it runs."""
    page.wait_for_selector(".stApp[data-test-script-state=notRunning] .sv-bell")
    assert page.locator('[data-testid="stException"]').count() == 0


def test_the_form(browser: Browser, server: str) -> None:
    page, _ = page_of(browser)
    page.goto(f"{server}/live?run=plain")
    expect(page.get_by_label("Access token")).to_be_focused()
    page.keyboard.type("not the token of it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the token of this dashboard.")
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for width, scheme in itertools.product((390, 1440), schemes):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        picture(page, f"login-{width}-{scheme}")
    page.context.close()


def test_from_the_form_to_the_run_and_out_again(browser: Browser, server: str) -> None:
    page, said = page_of(browser)
    page.goto(f"{server}/live?run=plain")
    page.get_by_label("Access token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("[data-chart=kl] .main-svg")
    assert page.url == f"{server}/live?run=plain"
    assert TOKEN not in page.evaluate("document.cookie + document.documentElement.outerHTML"), "no script can read it"
    assert not [text for text in said if "Content Security Policy" in text]
    follow_from_elsewhere(page, server)
    page.get_by_role("button", name="Notices").click()
    page.get_by_role("link", name="Sign out").click()
    expect(page.get_by_label("Access token")).to_be_visible()
    page.go_back()
    page.reload()
    expect(page.get_by_label("Access token")).to_be_visible()
    page.context.close()


def follow_from_elsewhere(page: Page, server: str) -> None:
    """A link on another site, as in a chat, leads to the run without a new sign-in; a frame of another site shows nothing."""
    link = f"{server}/live?run=plain"
    page.route(
        "http://chat.example/",
        lambda route: route.fulfill(content_type="text/html", body=f'<a href="{link}">run</a><iframe src="{link}">'),
    )
    page.goto("http://chat.example/")
    assert all(frame.url.startswith(("http://chat.example", "chrome-error:", "about:")) for frame in page.frames)
    page.get_by_role("link", name="run").click()
    page.wait_for_selector(".sv-head")


@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_is_text(unprotected: Page, server: str, name: str) -> None:
    page = unprotected
    where = "" if name == "runs" else name
    page.goto(
        f"{server}/{where}?run=" + HOSTILE.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20").replace("=", "%3D")
    )
    settled(page)
    page.mouse.wheel(0, 4000)
    settled(page)
    struck = "[globalThis.struck, document.querySelectorAll('img[src=x], [onerror], [onload], a[href^=javascript]').length]"
    assert page.evaluate(struck) == [None, 0]
    if name in ("runs", "live"):
        expect(page.get_by_text("<img src=x onerror").first).to_be_visible()


PARAMETERS = (
    "run",
    "from",
    "resume",
    "checkpoint",
    "job",
    "source",
    "against_run",
    "against",
    "snapshot",
    "patient",
    "stay",
    "variable",
    "filter",
)


@pytest.mark.parametrize("name", [name for name in PAGES if name != "runs"])
def test_no_address_of_a_page_reads_outside_the_runs(unprotected: Page, server: str, runs: Path, name: str) -> None:
    """Neither as the run, nor in what else is asked about a run that is there."""
    if not (runs.parent / "elsewhere").exists():
        outside = make_run(runs.parent, "elsewhere", steps=60, state=RunState.FAILED, error="CANARY of another folder")
        outside.console.write_text("CANARY of another folder")
        (runs / "link").symlink_to(outside.root)
    page = unprotected
    elsewhere = ("../elsewhere", "link", "../elsewhere/checkpoints/last.ckpt", str(runs.parent / "elsewhere"))
    asked = [(parameter, elsewhere[place % 4]) for place, parameter in enumerate(PARAMETERS)]
    for names in (["../elsewhere", "link"], ["plain"]):
        page.goto(f"{server}/{name}?{urlencode([*(('run', each) for each in names), *asked[1:]])}")
        settled(page)
        assert "CANARY" not in page.evaluate("document.documentElement.innerText"), (names, asked)


def test_an_account_of_the_organisation(browser: Browser, runs: Path, tmp_path: Path) -> None:
    options = ("--auth", "oidc", "--allow-user", "example.org")
    with provider() as issuer, dashboard_with(issuer, runs, tmp_path, *options) as address:
        page, said = page_of(browser)
        page.goto(f"{address}/live?run=plain")
        picture(page, "login-oidc")
        page.get_by_role("link", name="Sign in with your organisation").click()
        page.wait_for_selector(".sv-head")
        assert page.url == f"{address}/live?run=plain"
        page.get_by_role("button", name="Notices").click()
        expect(page.locator(".sv-bell-account")).to_contain_text("ann@example.org")
        page.get_by_role("link", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in with your organisation")).to_be_visible()
        assert not [text for text in said if "Content Security Policy" in text]
        page.context.close()
