"""A real dashboard process and a real Chromium, for browser tests and benchmarks."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


def find_chromium() -> str | None:
    """An installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextlib.contextmanager
def dashboard(runs: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a dashboard; see `serving`."""
    with serving(runs, *options, env=env) as (address, _):
        yield address


@contextlib.contextmanager
def serving(runs: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A dashboard on a free port, with its process; stopped as Ctrl-C does. `env` is added to the environment."""
    command = [sys.executable, "-m", "dashboard", "--runs", str(runs), "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    try:
        assert process.stdout is not None
        address = None
        for line in process.stdout:
            if line.startswith("SeqSetVAE Monitor: "):
                address = line.split(": ", 1)[1].strip()
                break
        assert address, "the dashboard ended before it served"
        yield address, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, address: str, *, width: int = 1440, dark: bool = False) -> Page:
    """A page of its own profile."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(address)
    return page
