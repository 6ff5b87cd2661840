"""Fixtures that several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Found examples repeat from run to run, and a busy machine is no failure.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; a file's fast tests to one process (`--dist loadgroup`), and its long ones: they share much."""
    items.sort(key=_long)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}{'-long' if _long(item) else ''}"))


def _long(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "browser"))


def _real_data(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs real data in ../shared/data/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def physionet_dir() -> Path:
    """PhysioNet 2012 as the challenge publishes it: set-a and set-b archives with their outcomes."""
    return _real_data("physionet2012")


@pytest.fixture(scope="session")
def mimic_dir() -> Path:
    """The MIMIC-IV demo in the older patient_ehr layout."""
    return _real_data("mimic_iv_demo")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A Chromium. No longer than a module's: while Playwright runs, no other test of the process can run an event loop."""
    from tests.browser.driving import chromium  # loads Playwright, which most tests do without

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """Where a dashboard shows `runs`, a fixture of the module."""
    from tests.browser.driving import dashboard

    with dashboard(runs) as served:
        yield served
