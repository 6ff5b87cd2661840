"""The Checkpoints page in a real Chromium: each state, choosing and comparing by a click, live news, hashes on demand."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from shared.layout import RunLayout
from shared.schema import RunState
from tests.browser.driving import open_tab, theme
from tests.browser.looking import EVIL, NEEDS_CHROMIUM, TABLES, check, settled, wait_charts
from tests.checkpoint_folders import every_state, save
from tests.run_factory import make_run

pytestmark = NEEDS_CHROMIUM
BEST = "best_step-000000500_auroc-0.8123.ckpt"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    outside = folder / "secret.txt"
    outside.write_text("secret")
    every_state(make_run(folder / "runs", "states", steps=20), outside)
    other = make_run(folder / "runs", "other", steps=20)
    save(other, "final_step-000000020.ckpt", "final", 20, seed=7, beta_max=0.7)
    make_run(folder / "runs", "fresh", state=RunState.RUNNING, steps=20)
    return folder / "runs"


@pytest.fixture(scope="module")
def address(address: str) -> str:
    return f"{address}/checkpoints"


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)])
def test_every_state_and_the_difference_to_another_run(browser: Browser, address: str, width: int, dark: bool) -> None:
    query = f"run=states&checkpoint={BEST}&against=final_step-000000020.ckpt&against_run=other"
    page = open_tab(browser, f"{address}?{query}", width=width, dark=dark)
    for name, state in {
        "last.ckpt": "unchecked", "interrupted_step-000000700.ckpt": "differs", "earlier_step-000000300.ckpt": "no sidecar",
        "earlier_step-000000400.ckpt": "bad sidecar", "earlier_step-000000600.ckpt": "gone", "sneaky.ckpt": "unreadable",
    }.items():  # fmt: skip
        expect(page.locator(f'tr[data-name="{name}"] [data-hash="{state}"]')).to_be_visible()
    expect(page.locator(".sv-banner", has_text="Left half-written")).to_contain_text("last.ckpt.tmp")
    expect(page.get_by_text("--resume_from_checkpoint").first).to_be_visible()
    expect(page.get_by_text("backend visualize").first).to_be_visible()
    expect(page.locator(".sv-groups", has_text="beta_max").first).to_contain_text("0.1 → 0.7")
    for key in ("change", "norms"):
        page.locator(f"[data-chart={key}]").scroll_into_view_if_needed()
        wait_charts(page, key)
    check(page, f"checkpoints-{width}-{theme(dark)}", but=TABLES)
    page.close()


def test_choose_and_compare_by_a_click_and_hear_of_news(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}?run=states")
    row = page.locator('tr[data-name="last.ckpt"]')
    row.get_by_role("link", name="last.ckpt", exact=True).click()
    expect(page.locator('[data-checkpoint="last.ckpt"]')).to_be_visible()
    settled(page)
    page.evaluate("window.stillHere = true")
    page.get_by_role("link", name=f"compare with {BEST}").click()
    page.wait_for_url(lambda url: f"against={BEST}" in url and "checkpoint=last.ckpt" in url)
    expect(page.locator('[data-chart="change"]')).to_be_attached()
    assert page.evaluate("window.stillHere") is True, "no page load"
    page.get_by_role("button", name="Check hashes").click()
    expect(row.locator('[data-hash="ok"]')).to_be_visible()
    expect(page.locator('tr[data-name="final_step-000000900.ckpt"] [data-hash="differs"]')).to_be_visible()
    save(RunLayout(runs / "states"), "collapse_step-000000950.ckpt", "collapse", 950)
    expect(page.locator('tr[data-name="collapse_step-000000950.ckpt"]')).to_contain_text("when the posterior collapsed")
    expect(page.locator('[data-checkpoint="last.ckpt"]')).to_be_visible()
    (runs / "states" / "checkpoints" / "collapse_step-000000950.ckpt").unlink()
    (runs / "states" / "checkpoints" / "collapse_step-000000950.json").unlink()
    expect(page.locator('tr[data-name="collapse_step-000000950.ckpt"]')).to_have_count(0)
    page.close()


def test_a_hostile_file_runs_nothing_and_shows_no_markup(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}?run=states&checkpoint=weights.ckpt")
    expect(page.locator(".sv-banner", has_text="would run programs")).to_contain_text("posix.system")
    expect(page.locator(".sv-groups", has_text=EVIL)).to_be_visible()
    assert page.locator(".sv-groups img").count() == 0
    assert not (runs.parent / "secret.txt.ran").exists()
    check(page, "checkpoints-hostile", but=TABLES)
    page.close()


@pytest.mark.parametrize("name", ["..%2F..%2Fother%2Fcheckpoints%2Ffinal_step-000000020.ckpt", "sneaky.ckpt"])
def test_nothing_outside_the_folder_is_read(browser: Browser, address: str, name: str) -> None:
    page = open_tab(browser, f"{address}?run=states&checkpoint={name}&against={name}&against_run=..%2Fother")
    words = "not followed" if name == "sneaky.ckpt" else "This checkpoint is not here"
    expect(page.locator(".sv-banner", has_text=words)).to_be_visible()
    assert page.locator("[data-chart]").count() == 0
    page.close()


def test_the_first_checkpoint_appears_by_itself(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}?run=fresh")
    expect(page.locator('[data-state="no-checkpoint"]')).to_contain_text("due at step 500")
    check(page, "checkpoints-none-yet", but=TABLES)
    save(RunLayout(runs / "fresh"), "last.ckpt", "last", 500)
    expect(page.locator('[data-checkpoint="last.ckpt"]')).to_be_visible()
    expect(page.get_by_text("The run is still training: stop it first")).to_be_visible()
    page.close()
