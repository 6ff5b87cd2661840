"""The Jobs page in a real Chromium: a training is started from the form, watched, and stopped; and what a page may not start."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.jobs.queue import Jobs
from tests.browser.driving import dashboard, open_page
from tests.browser.looking import NEEDS_CHROMIUM, check
from tests.run_factory import make_run
from tests.tiny_runs import TINY, prepare_cohort

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs", "old", steps=20)
    return tmp_path / "runs"


def enter(page: Page, option: str, value: str) -> None:
    page.get_by_role("textbox", name=option).fill(value)


def command(page: Page) -> str:
    return page.locator('[data-testid="stCode"]').inner_text().replace("\\\n", " ")


def test_a_training_is_started_watched_and_stopped(browser: Browser, runs: Path, tmp_path: Path) -> None:
    data = prepare_cohort(tmp_path / "data" / "stays")
    with dashboard(runs, "--allow-jobs", "--data", str(data.parent)) as address:
        page = open_page(browser, f"{address}/jobs")
        page.get_by_text("Debug", exact=True).click()
        code = page.locator('[data-testid="stCode"]')
        expect(code).to_contain_text("--max_steps 20")
        expect(page.locator(".sv-data")).to_contain_text("simulated data")
        enter(page, "batch_size", "0")
        expect(page.locator("[data-field=batch_size]")).to_have_text(
            "data.batch_size: expected a whole number at least 1, got '0'"
        )
        expect(page.get_by_role("button", name="Start training")).to_be_disabled()
        check(page, "jobs-form-1440-light")
        enter(page, "batch_size", str(TINY["batch_size"]))
        enter(page, "max_steps", "none")
        enter(page, "max_epochs", "20000")
        enter(page, "run_name", "<b>mine</b>; x")
        expect(code).to_contain_text("'<b>mine</b>; x'")
        expect(page.locator("[data-field=batch_size]")).to_have_count(0)
        page.get_by_role("textbox", name="run_name").fill("mine")
        expect(code).to_contain_text("--run_name mine")
        expect(code).to_contain_text("--max_epochs 20000")
        assert f"--data_dir {data}" in command(page) and f"--output_dir {runs}" in command(page)
        page.get_by_role("button", name="Start training").click()
        expect(page.locator(".sv-job-head [data-state=running]")).to_be_visible()
        assert re.search(r"\?job=\d{8}-\d{6}-[0-9a-f]{4}$", page.url)
        expect(page.locator(".sv-log")).to_contain_text("step 5 probe", timeout=60_000)
        check(page, "jobs-running-1440-light")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".sv-job-head [data-state=interrupted]")).to_be_visible()
        expect(page.locator(".sv-log")).to_contain_text("go on with")
        page.set_viewport_size({"width": 390, "height": 900})
        check(page, "jobs-interrupted-390-light")
        page.get_by_role("link", name="Open its run").click()
        page.wait_for_url("**/live?run=mine-*")
        expect(page.locator(".sv-head:not(.sv-job-head) [data-state=interrupted]")).to_be_visible()
        page.close()
    (run,) = runs.glob("mine-*")
    assert list((run / "checkpoints").glob("interrupted_*.ckpt"))


def test_without_permission_the_page_only_shows_the_command(browser: Browser, runs: Path) -> None:
    """And names that lead elsewhere are said to be none."""
    make_run(runs, "<i>odd</i>", steps=5)
    with dashboard(runs) as address:
        page = open_page(browser, f"{address}/jobs?from=old", width=390, dark=True)
        expect(page.locator('[data-testid="stCode"]')).to_contain_text("--beta_warmup_steps 500")
        expect(page.locator("main")).to_contain_text("restart it with --allow-jobs")
        assert page.get_by_role("button", name="Start training").count() == 0
        check(page, "jobs-not-allowed-390-dark")
        page.goto(f"{address}/jobs?resume=../../etc/passwd")
        expect(page.locator(".sv-banner")).to_contain_text("there is no run '..'")
        page.goto(f"{address}/jobs?job=../../x")
        expect(page.locator(".sv-banner")).to_contain_text("not the name of a job")
        page.close()
    assert Jobs(runs, allowed=False).all() == ([], [])
