"""From a line appended to metrics.jsonl to the number on the page, in real Chromium pages of a real dashboard.

python -m tests.benchmarks live_latency --pages 5 --appends 60
"""

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page

from shared.layout import RunLayout
from shared.schema import RunState
from shared.writer import JsonlWriter
from tests.benchmarks.harness import parser_of, report
from tests.browser.driving import chromium, dashboard, open_page
from tests.run_factory import beat, make_run, training_row

STEPS_BEFORE = 2000
PATIENCE_S = 8.0
PROBE = """() => {
  window.seen = [];
  const look = () => requestAnimationFrame(() => {
    const shown = document.querySelector('[data-metric=step]');
    const step = shown && parseInt(shown.firstChild.textContent.replaceAll(',', ''));
    if (step && step !== window.seen.at(-1)?.[0]) window.seen.push([step, performance.timeOrigin + performance.now()]);
  });
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  look();
}"""
"""Notes when a step is on the page, in the frame that shows it; performance.timeOrigin puts it on the clock of this machine."""


def append(layout: RunLayout, appends: int, seed: int) -> dict[int, float]:
    """Append steps at random intervals of 0.2 to 1.5 s, with the heartbeat as a trainer writes it; step to time in seconds."""
    rng, pauses = np.random.default_rng(seed), random.Random(seed)
    writer = JsonlWriter(layout.metrics)
    written = {}
    for step in range(STEPS_BEFORE + 1, STEPS_BEFORE + appends + 1):
        time.sleep(pauses.uniform(0.2, 1.5))
        row = training_row(step, rng)
        written[step] = time.time()
        writer.write(step, row)
        beat(layout, step, planned=5000)
    writer.close()
    return written


def delays(page: Page, written: dict[int, float]) -> list[float]:
    """Seconds until each step, or a later one, was on the page; steps that never came are left out."""
    seen: list[tuple[int, float]] = page.evaluate("window.seen")
    found = []
    for step, at in written.items():
        shown = next((moment / 1000 for number, moment in seen if number >= step), None)
        if shown is not None:
            found.append(shown - at)
    return found


def measure(pages: int, appends: int, seed: int) -> list[list[float]]:
    """Delays of each page."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        layout = make_run(runs, "measured", steps=STEPS_BEFORE, state=RunState.RUNNING, planned=5000)
        with dashboard(runs) as address, chromium() as browser:
            opened = [open_page(browser, f"{address}/live?run=measured") for _ in range(pages)]
            for page in opened:
                page.wait_for_selector("[data-chart=recon] .main-svg", timeout=60_000)
                page.evaluate(PROBE)
            time.sleep(2)
            written = append(layout, appends, seed)
            last = max(written)
            for page in opened:
                page.wait_for_function("last => window.seen.at(-1)?.[0] >= last", arg=last, timeout=1000 * PATIENCE_S)
            return [delays(page, written) for page in opened]


def main(argv: list[str]) -> None:
    """Run the benchmark and report."""
    parser = parser_of("live_latency", __doc__)
    parser.add_argument("--pages", type=int, default=5, help="open pages, each in a browser profile of its own")
    parser.add_argument("--appends", type=int, default=60, help="steps appended")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    found = measure(args.pages, args.appends, args.seed)
    everything = [delay for page in found for delay in page]
    rows: list[dict[str, object]] = [{"page": f"page {index + 1}", **summary(page)} for index, page in enumerate(found)]
    figures: dict[str, object] = {**summary(everything), "pages": args.pages, "appends": args.appends}
    report("live_latency", [*rows, {"page": "all", **summary(everything)}], figures)


def summary(values: list[float]) -> dict[str, Any]:
    """Median, 95th percentile and number of delays."""
    if not values:
        return {"median_s": None, "p95_s": None, "max_s": None, "arrived": 0}
    return {
        "median_s": round(statistics.median(values), 3), "p95_s": round(float(np.percentile(values, 95)), 3),
        "max_s": round(max(values), 3), "arrived": len(values),
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
