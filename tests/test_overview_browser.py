"""The list of runs in a real Chromium: search and grouping, selection, dialogs, keyboard, new rows, thousands of them."""

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.components import FRONTEND
from dashboard.overview.rows import DEFAULTS
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunNotes, RunState
from shared.writer import write_record
from tests.benchmarks.overview import make_many
from tests.browser.driving import dashboard, open_tab
from tests.browser.looking import EVIL, NEEDS_CHROMIUM, picture
from tests.run_factory import beat, make_run, make_zoo

pytestmark = NEEDS_CHROMIUM
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ROWS = ".sv-runs tbody tr[data-name]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    make_zoo(folder)
    write_record(RunLayout(folder / "torn-log").notes, RunNotes(tags=["sweep", EVIL], note=f"see {EVIL}", archived=True))
    return folder


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """One page for all tests that leave it as they found it."""
    opened = open_tab(browser, address)
    opened.wait_for_selector(ROWS)
    yield opened
    opened.close()


def names(page: Page) -> list[str]:
    return page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.dataset.name)")


def search(page: Page, text: str) -> None:
    page.get_by_label("Search and filter runs").fill(text)


def test_list_of_runs(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}/?archived=yes")
    page.wait_for_selector(ROWS)
    for width, height in ((1440, 1300), (390, 3600)):
        page.set_viewport_size({"width": width, "height": height})
        expect(page.locator(ROWS)).to_have_count(len([path for path in runs.iterdir() if not path.name.startswith(".")]))
        expect(page.locator('tr[data-name="broken-json"]')).to_contain_text("not valid JSON")
        expect(page.locator(f'tr[data-name="{EVIL}"]')).to_have_count(1)
        expect(page.locator('tr[data-name="torn-log"]')).to_contain_text(f"see {EVIL}")
        assert page.locator(".sv-runs img").count() == 0
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth <= main.clientWidth"), (
                "nothing is wider than the page"
            )
            picture(page, f"runs-{width}-{scheme}")
    page.close()


def test_search_sort_and_group_are_in_the_address(page: Page, browser: Browser, address: str) -> None:
    search(page, "state:finished auroc>0.5 -tag:none")
    expect(page.locator(ROWS)).to_have_count(2)
    assert set(names(page)) == {"physionet-finished", EVIL}
    page.get_by_label("Group by").select_option("data")
    page.get_by_role("button", name="Best AUROC").click()
    assert page.url.split("?")[1] == "q=state%3Afinished+auroc%3E0.5+-tag%3Anone&sort=-auroc&group=data"
    expect(page.locator(".sv-list-group")).to_have_count(2)
    other = open_tab(browser, page.url)
    other.wait_for_selector(".sv-list-group")
    assert names(other) == names(page) and other.locator("th[data-column=auroc]").get_attribute("aria-sort") == "descending"
    other.close()
    page.get_by_label("Group by").select_option("")
    search(page, "auroc>.5")
    scores = page.locator(f"{ROWS} [data-column=auroc]").all_text_contents()
    assert len(scores) > 5 and scores == sorted(scores, reverse=True)
    page.get_by_role("button", name="Best AUROC").click()
    page.get_by_role("button", name="Best AUROC").click()
    search(page, "")
    assert "?" not in page.url


def test_a_search_that_cannot_be_understood_says_what_to_write(page: Page) -> None:
    before = names(page)
    search(page, "loss.beta_mx>1")
    expect(page.locator(".sv-list-status")).to_have_text("There is no field loss.beta_mx; did you mean loss.beta_max?")
    assert names(page) == before, "the list stays"
    search(page, "nothing is called this")
    expect(page.locator(".sv-list-empty")).to_contain_text("No run matches the search")
    search(page, "torn")
    page.get_by_role("button", name="Show 1 archived").click()
    assert names(page) == ["torn-log"] and page.url.endswith("?q=torn&archived=yes")
    page.get_by_label("archived").uncheck()
    page.get_by_role("button", name="Clear the search").click()
    assert names(page) == before


def test_keyboard_reaches_rows_and_enter_opens(browser: Browser, address: str) -> None:
    page = open_tab(browser, address)
    page.wait_for_selector(ROWS)
    shown = names(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.ariaLabel") == "Search and filter runs"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ ")
    expect(page.locator(".sv-chosen")).to_contain_text("3 selected")
    assert page.evaluate("document.activeElement.dataset.name") == shown[3], "the row stays where the keys are"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/live"))
    assert page.evaluate("new URLSearchParams(location.search).get('run')") == shown[3]
    page.close()


def test_tags_archive_and_compare_of_selected_runs(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, address)
    page.wait_for_selector(ROWS)
    chosen = ["physionet-finished", "interrupted-by-user"]
    for name in chosen:
        page.get_by_label(f"select {name}").check()
    page.get_by_role("button", name="Tags …").click()
    page.get_by_test_id("stDialog").get_by_label("Add").fill("first look")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # closes the list of known tags
    page.get_by_role("button", name="Save for 2 runs").click()
    for name in chosen:
        expect(page.locator(f'tr[data-name="{name}"] .sv-chip')).to_have_text("first look")
        assert read_record(runs / name / "notes.json", RunNotes).tags == ["first look"]
    page.get_by_role("button", name="Archive …").click()
    page.get_by_role("button", name="Archive 2 runs").click()
    expect(page.locator(f'tr[data-name="{chosen[0]}"]')).to_have_count(0)
    expect(page.locator(".sv-chosen")).to_contain_text("2 selected (2 not shown)")
    page.get_by_role("button", name="Restore").click()
    expect(page.locator(f'tr[data-name="{chosen[0]}"]')).to_have_count(1)
    page.get_by_role("button", name="Compare", exact=True).last.click()
    page.wait_for_url(re.compile("/compare"))
    assert page.evaluate("new URLSearchParams(location.search).getAll('run')") == chosen
    page.close()


def test_a_note_is_plain_text_and_what_was_typed_stays_with_its_run(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}/?q=dead-process")
    note = page.get_by_test_id("stDialog").get_by_role("textbox", name="Note")
    page.get_by_role("button", name="Tags and note of dead-process").click()
    note.fill("typed, not saved")
    page.get_by_role("button", name="Close").click()
    search(page, "nan-running")
    page.get_by_role("button", name="Tags and note of nan-running").click()
    expect(note).to_have_value("")
    note.fill(f"# {EVIL}")
    page.get_by_role("button", name="Save").click()
    expect(page.locator('tr[data-name="nan-running"]')).to_contain_text(f"# {EVIL}")
    assert read_record(runs / "nan-running" / "notes.json", RunNotes).note == f"# {EVIL}"
    assert page.locator("main img").count() == 0 and not (runs / "dead-process" / "notes.json").exists()
    page.close()


def test_deleting_asks_names_sizes_and_spares_what_runs(browser: Browser, address: str, runs: Path) -> None:
    doomed = make_run(runs, "doomed <b>run", steps=100)
    page = open_tab(browser, f"{address}/?q=run%20state:finished%20doomed")
    page.get_by_label("select doomed <b>run").check()
    search(page, "healthy-running")
    page.get_by_label("select healthy-running").check()
    page.get_by_role("button", name="Delete …").click()
    dialog = page.get_by_test_id("stDialog")
    expect(dialog).to_contain_text("doomed <b>run")
    expect(dialog).to_contain_text("They are running: stop the training first.")
    assert doomed.root.exists(), "nothing goes before it is confirmed"
    dialog.get_by_role("button", name=re.compile(r"Delete 1 run \(\d+(\.\d+)? kB\)")).click()
    expect(page.get_by_test_id("stDialog")).to_have_count(0)
    search(page, "doomed")
    expect(page.locator(".sv-list-empty")).to_contain_text("No run matches")
    assert not doomed.root.exists() and (runs / "healthy-running").exists()
    page.close()


def test_rows_follow_their_runs_in_place(browser: Browser, tmp_path: Path) -> None:
    """200 runs: the first screen, a new run, a heartbeat that changes one cell, scrolling to the end, and what exists of it all."""
    runs = tmp_path / "runs"
    make_many(runs, 200, seed=0, steps=20)
    with dashboard(runs) as address:
        page = open_tab(browser, address)
        page.wait_for_function("Number(document.querySelector('.sv-runs')?.ariaRowCount) === 201", timeout=60_000)
        layout = make_run(runs, "new", steps=10, state=RunState.RUNNING, age=timedelta(0))
        expect(page.locator(ROWS).first).to_have_attribute("data-name", "new")
        row = page.locator('tr[data-name="new"]')
        page.evaluate("window.row = document.querySelector('tr[data-name=new]'); window.link = row.querySelector('a')")
        beat(layout, 77)
        expect(row.locator("[data-column=progress]")).to_contain_text("77 of 2,000")
        assert page.evaluate("row.isConnected && link.isConnected"), "only the cell that changed was made anew"
        assert page.locator(ROWS).count() < 60, "rows far from the screen do not exist"
        page.locator(ROWS).first.focus()
        page.keyboard.press("End")
        expect(page.locator(ROWS).last).to_be_in_viewport()
        assert names(page)[-1].startswith("sweep-0199-")
        page.get_by_label("select all runs that are shown").check()
        expect(page.locator(".sv-chosen")).to_contain_text("201 selected")
        shutil.rmtree(layout.root)
        expect(page.locator(".sv-chosen")).to_contain_text("200 selected")
        page.close()


def row(name: str, **own: Any) -> dict[str, Any]:
    plain = {
        "name": name, "slot": 0, "state": "finished", "reason": None, "complete": True, "verdict": None, "step": 10, "planned": 100,
        "auroc": None, "units": None, "dims": None, "started": 1_795_600_000.0, "duration": 7200.0, "device": "CPU", "data": "demo",
        "simulated": False, "tags": [], "note": "", "archived": False, "config": {}, "like": True,
    }  # fmt: skip
    return plain | own


FOUND = [
    ("alpha", ["alpha"]), ("al*", ["alpha"]), ("-alpha", ["beta", "gamma"]), ("ALPHA", ["alpha"]), ("zzz", []), ("", ["alpha", "beta", "gamma"]),
    ("state:running", ["beta"]), ("state:run*", ["beta"]), ("tag:sweep", ["alpha"]), ("tag:swee", []), ('tag:"two words"', ["beta"]),
    ("auroc>0.8", ["alpha"]), ("auroc<=0.7", ["beta"]), ("-auroc>0.8", ["beta", "gamma"]), ("best_auroc>=0.9", ["alpha"]),
    ("loss.beta_max>0.5", ["beta"]), ("beta_max=0.1", ["alpha"]), ("beta_max!=0.1", ["beta"]), ("lr_schedule:cosine", ["alpha", "beta"]),
    ("max_steps=none", ["alpha", "beta"]), ("compile_model=false", ["alpha", "beta"]), ("net.size>2", ["gamma"]),
    ("duration>1h duration<3h", ["alpha", "beta"]), ("started>=2026-11", ["alpha", "beta", "gamma"]), ("started<2026-11-01", []),
    ("verdict:collapse", ["beta"]), ("verdict:alarm", ["beta"]), ("archived:yes", ["gamma"]), ('"a>b"', ["gamma"]),
    ("progress<50", ["alpha", "beta", "gamma"]),
]  # fmt: skip
WRONG = [
    ("aurok>1", "did you mean auroc"), ("state:walking", "state is one of running"), ("auroc>high", "write a number, as in auroc>0.5"),
    ("duration>2", "90min, 2h or 3d"), ('tag:"open', "left open"), ("started>yesterday", "2026-11-24"),
    ("beta_mx>1", "did you mean loss.beta_max"),
]  # fmt: skip


@pytest.fixture(scope="module")
def parser(browser: Browser) -> Iterator[Page]:
    """A blank page that has only the search in it."""
    page = browser.new_page()
    page.add_script_tag(content=(FRONTEND / "overview-query.js").read_text(encoding="utf-8"))
    collapse = {"severity": "alarm", "kind": "collapse", "title": "Posterior collapse", "detail": ""}
    rows = [
        row("alpha", auroc=0.9, tags=["sweep"]),
        row("beta", auroc=0.7, state="running", tags=["two words"], config={"loss.beta_max": 1.0}, verdict=collapse),
        row("gamma", config={"net.size": 3}, like=False, archived=True, note="a>b", duration=99999.0),
    ]
    facts = {"defaults": DEFAULTS, "options": sorted([*DEFAULTS, "net.size"])}
    page.evaluate("data => { [window.rows, window.facts] = data }", orjson.loads(orjson.dumps([rows, facts])))
    yield page
    page.close()


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_what_a_search_finds(parser: Page, text: str, expected: list[str]) -> None:
    assert parser.evaluate("text => rows.filter(parse(text, facts).test).map(row => row.name)", text) == expected


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_a_search_refuses(parser: Page, text: str, words: str) -> None:
    said = parser.evaluate("text => { try { parse(text, facts); return ''; } catch (error) { return error.message; } }", text)
    assert words in said


def test_unknown_values_come_last_and_tags_make_several_groups(parser: Page) -> None:
    order = "down => sorted([...rows], { id: 'auroc', down }, facts).map(row => row.name)"
    assert parser.evaluate(order, True) == ["alpha", "beta", "gamma"]
    assert parser.evaluate(order, False) == ["beta", "alpha", "gamma"]
    groups = "id => grouped([...rows, { ...rows[0], name: 'delta', tags: ['sweep', 'x'] }], id, facts).map(g => [g.label, g.rows.length])"
    assert parser.evaluate(groups, "tag") == [["sweep", 2], ["two words", 1], ["x", 1], ["no tag", 1]]
    assert parser.evaluate(groups, "loss.beta_max") == [["0.1", 2], ["1", 1], ["no loss.beta_max", 1]]
