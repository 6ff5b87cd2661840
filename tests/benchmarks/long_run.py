"""A run of ten days on the Live page: charts from a cold server, a narrow part at full resolution, memory of the server.

python -m tests.benchmarks long_run --steps 3000000
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
from playwright.sync_api import Page

from shared.layout import RunLayout
from tests.benchmarks.harness import parser_of, report
from tests.browser.driving import chromium, open_page, serving
from tests.run_factory import make_run

METRICS = ("loss", "recon", "kl", "prediction", "posterior_variance", "active_units", "grad_norm", "step_s")
LEVELS = np.array([40, 38, 5, 0.4, 0.55, 60, 1.5, 0.3])
CHARTS = ("kl", "posterior_variance", "active_units", "recon")
BLOCK = 100_000
ZOOM = """([from, to]) => new Promise((resolve) => {
  const plot = document.querySelector('[data-chart=kl] .js-plotly-plot');
  const began = performance.now();
  const look = () => {
    const x = plot._fullData[0].x;
    const inside = x.length >= to - from && x[0] >= from - 2 && x.at(-1) <= to + 2;
    if (inside) requestAnimationFrame(() => setTimeout(() => resolve([(performance.now() - began) / 1000, x.length])));
    else setTimeout(look, 5);
  };
  Plotly.relayout(plot, { 'xaxis.range[0]': from, 'xaxis.range[1]': to });
  look();
})"""
"""Seconds from a zoom, as a drag of the mouse ends in it, to every step of that part in the chart that was zoomed."""


def write_steps(layout: RunLayout, steps: int, seed: int) -> None:
    """A step log with noise on eight metrics."""
    rng = np.random.default_rng(seed)
    with layout.metrics.open("wb") as file:
        for begin in range(0, steps, BLOCK):
            values = LEVELS * (1 + 0.06 * rng.standard_normal((min(BLOCK, steps - begin), len(METRICS))))
            numbered = enumerate(values.tolist(), start=begin + 1)
            lines = [orjson.dumps({"v": 1, "step": step, **dict(zip(METRICS, row, strict=True))}) for step, row in numbered]
            file.write(b"\n".join(lines) + b"\n")


def drawn(page: Page) -> None:
    """Wait until the charts on top of the page are on the screen."""
    for key in CHARTS:
        page.wait_for_selector(f"[data-chart={key}] .sv-plot[data-revision] .main-svg", timeout=120_000)


def measure(runs: Path, steps: int, zooms: int) -> dict[str, Any]:
    """All figures, in seconds and 10^9 bytes."""
    began = time.perf_counter()
    with chromium() as browser:
        started = time.perf_counter()
        with serving(runs) as (address, process):
            page = open_page(browser, f"{address}/live?run=long")
            drawn(page)
            cold = time.perf_counter() - started
            page.wait_for_function(
                "!document.querySelector('.sv-banners').textContent.includes('The log is long')", timeout=300_000
            )
            whole = time.perf_counter() - started
            rng, found = np.random.default_rng(0), []
            for place in rng.integers(1000, steps - 2000, zooms).tolist():
                found.append(page.evaluate(ZOOM, [place, place + 1000])[0])
                page.evaluate(
                    "Plotly.relayout(document.querySelector('[data-chart=kl] .js-plotly-plot'), {'xaxis.autorange': true})"
                )
                page.wait_for_function("document.querySelector('[data-chart=kl] .js-plotly-plot')._fullData[0].x.length > 1500")
            memory = psutil.Process(process.pid).memory_info()
            peak = getattr(memory, "peak_wset", None) or peak_of(process.pid) or memory.rss
    return {
        "cold_s": round(cold, 2), "whole_s": round(whole, 2), "zoom_s": round(float(np.median(found)), 3), "zoom_max_s": round(max(found), 3),
        "peak_gb": round(peak / 1e9, 3), "browser_start_s": round(started - began, 2),
    }  # fmt: skip


def peak_of(pid: int) -> int | None:
    """The most memory that a process ever had, in bytes, where the system keeps count."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def main(argv: list[str]) -> None:
    """Run the benchmark and report."""
    parser = parser_of("long_run", __doc__)
    parser.add_argument("--steps", type=int, default=3_000_000)
    parser.add_argument("--zooms", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        layout = make_run(Path(folder), "long", steps=10, planned=args.steps)
        write_steps(layout, args.steps, args.seed)
        size = layout.metrics.stat().st_size
        found = measure(Path(folder), args.steps, args.zooms)
    figures = {"steps": args.steps, "log_gb": round(size / 1e9, 3), **found}
    report("long_run", [{"figure": name, "value": value} for name, value in figures.items()], figures)


if __name__ == "__main__":
    main(sys.argv[1:])
