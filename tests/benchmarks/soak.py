"""A dashboard that stays up: what ten idle pages cost, and what is left behind after hours of updates and hundreds of visits.

python -m tests.benchmarks soak --visits 200 --steps 14400

Eight hours at one step in two seconds are 14,400 steps; they are appended as fast as visits go on. Growth is that of the server's
resident memory, from after the first visits to after the last have been forgotten.
"""

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Browser

from shared.layout import RunLayout
from shared.schema import RunState
from shared.writer import JsonlWriter
from tests.benchmarks.harness import parser_of, report
from tests.browser.driving import chromium, open_page, serving
from tests.run_factory import beat, make_run, probe_row, training_row

IDLE_PAGES, IDLE_S = 10, 30.0
AT_ONCE = 5
WARM_VISITS = 25
FORGOTTEN_S = 150.0
"""Streamlit keeps a session for two minutes after its page has gone."""
PAGES = ("live?run=growing", "", "live?run=growing&axis=Time", "checkpoints?run=growing", "compare?run=growing&run=done")


@dataclass(frozen=True)
class State:
    """What a server holds."""

    memory_mb: float
    threads: int
    watches: int
    connections: int


def state_of(process: psutil.Process) -> State:
    """Resident memory, threads, inotify watches and established connections now."""
    watches = sum(
        path.read_text().count("inotify wd:") for path in Path(f"/proc/{process.pid}/fdinfo").iterdir() if path.exists()
    )
    connected = sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp"))
    return State(process.memory_info().rss / 1e6, process.num_threads(), watches, connected)


def idle_share(browser: Browser, address: str, process: psutil.Process) -> float:
    """Processor seconds per second of the server with pages open on a run that has ended."""
    pages = [open_page(browser, f"{address}/live?run=done") for _ in range(IDLE_PAGES)]
    for page in pages:
        page.wait_for_selector("[data-chart=recon] .main-svg", timeout=120_000)
    time.sleep(10)  # what loads after the first picture
    before = sum(process.cpu_times()[:2])
    time.sleep(IDLE_S)
    share = (sum(process.cpu_times()[:2]) - before) / IDLE_S
    for page in pages:
        page.context.close()
    return share


def visit(browser: Browser, address: str, times: int) -> None:
    """Open pages, `AT_ONCE` at a time, and close them once they show something."""
    for begin in range(0, times, AT_ONCE):
        paths = [PAGES[(begin + number) % len(PAGES)] for number in range(min(AT_ONCE, times - begin))]
        pages = [open_page(browser, f"{address}/{path}") for path in paths]
        for page in pages:
            page.wait_for_selector("[data-state], .sv-section, .sv-card, [data-name]", state="attached", timeout=120_000)
        for page in pages:
            page.context.close()


def grow(layout: RunLayout, steps: int, stop: threading.Event) -> None:
    """Append steps, with the heartbeat and the probe as a trainer writes them."""
    rng, metrics, evaluations = np.random.default_rng(0), JsonlWriter(layout.metrics), JsonlWriter(layout.evaluations)
    for step in range(1001, 1001 + steps):
        if stop.is_set():
            break
        metrics.write(step, training_row(step, rng))
        if step % 10 == 0:
            beat(layout, step, planned=20_000)
        if step % 200 == 0:
            evaluations.write(step, probe_row(step, rng))
        stop.wait(0.02)
    metrics.close()
    evaluations.close()


def measure(runs: Path, visits: int, steps: int) -> dict[str, object]:
    """All figures."""
    done = make_run(runs, "done", steps=2000)
    growing = make_run(runs, "growing", steps=1000, state=RunState.RUNNING, planned=20_000)
    assert done.root != growing.root
    with serving(runs) as (address, started), chromium() as browser:
        process = psutil.Process(started.pid)
        idle = idle_share(browser, address, process)
        visit(browser, address, WARM_VISITS)
        time.sleep(FORGOTTEN_S)
        before, stop = state_of(process), threading.Event()
        appending = threading.Thread(target=grow, args=(growing, steps, stop))
        appending.start()
        visit(browser, address, visits)
        appending.join(timeout=1200)
        stop.set()
        appending.join()
        time.sleep(FORGOTTEN_S)
        after = state_of(process)
    leaks = {name: max(getattr(after, name) - getattr(before, name), 0) for name in ("threads", "watches", "connections")}
    return {
        "idle_cpu": round(idle, 4), "growth": round(after.memory_mb / before.memory_mb - 1, 4), "leaks": sum(leaks.values()),
        **{f"leaked_{name}": value for name, value in leaks.items()}, "memory_mb": round(after.memory_mb), "visits": visits, "steps": steps,
    }  # fmt: skip


def main(argv: list[str]) -> None:
    """Run the benchmark and report."""
    parser = parser_of("soak", __doc__)
    parser.add_argument("--visits", type=int, default=200)
    parser.add_argument("--steps", type=int, default=14_400)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.visits, args.steps)
    report("soak", [{"figure": name, "value": value} for name, value in figures.items()], figures)


if __name__ == "__main__":
    main(sys.argv[1:])
