"""A real dashboard process and a real Chromium, for browser tests and benchmarks."""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TextIO

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S = 60.0, 30.0
"""Guards against hanging; a busy machine takes some seconds for each."""
expect.set_options(timeout=30_000)  # as long as Playwright's other waits: how fast a page is, benchmarks say
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


def find_chromium() -> str | None:
    """An installed Chromium or Chrome; the one without windows first, which starts and draws in half the time."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextlib.contextmanager
def dashboard(runs: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a dashboard; see `serving`."""
    with serving(runs, *options, env=env) as (address, _):
        yield address


@contextlib.contextmanager
def serving(
    runs: Path, *options: str, env: Mapping[str, str] | None = None, stderr: TextIO | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A dashboard on a free port, with its process; stopped as Ctrl-C does. `env` is added to the environment.

    What it complains about goes to `stderr`, or where that of the tests goes.

    Raises:
        AssertionError: it ended, or said nothing for a minute, before it served; with what it printed so far.
    """
    command = [sys.executable, "-m", "dashboard", "--runs", str(runs), "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **(env or {})}
    )
    printed: list[str] = []
    served: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, printed, served), daemon=True)
    reader.start()
    try:
        try:
            address = served.get(timeout=START_S)
        except queue.Empty:
            raise AssertionError(f"no address within {START_S:.0f} s; printed so far:\n{''.join(printed)}") from None
        assert address, f"the dashboard ended before it served; it printed:\n{''.join(printed)}"
        yield address, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            reader.join(timeout=STOP_S)


def _read(process: "subprocess.Popen[str]", printed: list[str], served: "queue.Queue[str | None]") -> None:
    """Take all that the process prints, so that a full pipe never holds it up; hand on the address, or None at its end."""
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if line.startswith("SeqSetVAE Monitor: "):
            served.put(line.split(": ", 1)[1].strip())
    served.put(None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            for key in [key for key in PROFILES if key[0] is browser]:
                del PROFILES[key]
            browser.close()


def theme(dark: bool) -> Literal["dark", "light"]:
    """Its name, as browsers have it and as pictures are named."""
    return "dark" if dark else "light"


def open_page(browser: Browser, address: str, *, width: int = 1440, dark: bool = False) -> Page:
    """A page of its own profile."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme(dark))
    page = context.new_page()
    page.goto(address)
    return page


PROFILES: dict[tuple[Browser, int, bool], BrowserContext] = {}
"""One per width and theme: what the browser has once loaded and compiled stays in its cache, which is most of a page's cost."""


def open_tab(browser: Browser, address: str, *, width: int = 1440, dark: bool = False) -> Page:
    """A page of the profile that all tests share which ask for this width and theme; close the page, not its context."""
    key = browser, width, dark
    if key not in PROFILES:
        PROFILES[key] = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme(dark))
    page = PROFILES[key].new_page()
    page.goto(address)
    return page
