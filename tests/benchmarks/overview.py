"""The list of 2,000 runs: from a cold server start to the table on the page, and from a new run to its row, in real Chromium.

python -m tests.benchmarks overview --runs 2000 --rounds 5
"""

import random
import shutil
import statistics
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import orjson
from playwright.sync_api import Page

from shared.layout import RunLayout
from shared.schema import RunState, now
from tests.benchmarks.harness import parser_of, report
from tests.browser.driving import chromium, dashboard
from tests.run_factory import GONE_PID, make_run

STEPS = 6000
METRICS_KEPT = 65_536
"""Bytes of metrics.jsonl that each run keeps: the list reads only its end."""
FIRST_SHOWN = """() => {
  const row = document.querySelector('.sv-runs tbody tr[data-name]');
  return Boolean(row?.dataset.name.startsWith('sweep-0000-') && /[0-9]/.test(row.querySelector('[data-column=auroc]').textContent));
}"""
"""The newest run is the first row, with the figure that is read from its log."""
ALL_SHOWN = """() => {
  const rows = Number(document.querySelector('.sv-runs')?.ariaRowCount) - 1;
  return rows === %d && !document.querySelector('.sv-list-status').textContent.includes('reading');
}"""
PROBE = """name => {
  window.shown = new Promise(resolve => {
    const look = () => {
      if (document.querySelector(`tr[data-name="${name}"]`)) requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now()));
    };
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  });
}"""
"""Notes when the row of a run is on the page; performance.timeOrigin puts it on the clock of this machine."""


def make_many(runs: Path, number: int, seed: int, steps: int = STEPS) -> None:
    """`number` runs copied from one of each kind, with options, times and names of their own."""
    rng = random.Random(seed)
    kinds = runs.parent / "kinds"
    make_run(kinds, "healthy", steps=steps, planned=steps)
    make_run(kinds, "collapsed", steps=steps, planned=steps, collapse=True)
    make_run(kinds, "interrupted", steps=steps // 2, planned=steps, state=RunState.INTERRUPTED)
    make_run(kinds, "dead", steps=steps // 3, planned=steps, state=RunState.RUNNING, pid=GONE_PID)
    made = {layout.name: {file.name: file.read_bytes() for file in layout.iterdir()} for layout in kinds.iterdir()}
    weights = {"healthy": 6, "collapsed": 2, "interrupted": 1, "dead": 1}
    for index in range(number):
        kind = rng.choices(list(weights), list(weights.values()))[0]
        began = now() - timedelta(minutes=17 * index + 60)
        folder = runs / f"sweep-{index:04d}-{kind}-{began:%Y%m%d-%H%M%S}"
        folder.mkdir(parents=True)
        for name in ("posterior", "latents", "reconstruction", "checkpoints"):
            (folder / name).mkdir()
        for name, data in made[kind].items():
            (folder / name).write_bytes(_own(folder.name, began, data, rng) if name == "run.json" else _short(name, data))


def _own(name: str, began: datetime, data: bytes, rng: random.Random) -> bytes:
    record = orjson.loads(data)
    record["name"] = name
    record["created_at"] = began.isoformat()
    record["config"]["loss"]["beta_max"] = rng.choice([0.1, 0.5, 1.0, 4.0])
    record["config"]["model"]["latent_dim"] = rng.choice([16, 32, 64, 128])
    record["config"]["trainer"]["seed"] = rng.randrange(10)
    return orjson.dumps(record, option=orjson.OPT_INDENT_2)


def _short(name: str, data: bytes) -> bytes:
    if name != "metrics.jsonl" or len(data) <= METRICS_KEPT:
        return data
    return data[data.index(b"\n", len(data) - METRICS_KEPT) + 1 :]


def cold(runs: Path, number: int) -> tuple[float, float]:
    """Seconds from starting the server to the first screen of the table with its figures, and to all runs, logs included."""
    shutil.rmtree(runs / ".dashboard", ignore_errors=True)
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        began = time.perf_counter()
        with dashboard(runs) as address:
            page.goto(address, wait_until="commit")
            page.wait_for_function(FIRST_SHOWN, timeout=120_000)
            first = time.perf_counter() - began
            page.wait_for_function(ALL_SHOWN % number, timeout=120_000)
            return first, time.perf_counter() - began


def appear(page: Page, runs: Path, index: int) -> float:
    """Seconds from writing a new run's run.json to its row on the page."""
    layout = RunLayout(runs / f"new-{index}")
    page.evaluate(PROBE, layout.root.name)
    at = time.time()
    make_run(runs, layout.root.name, steps=1, state=RunState.CREATED, age=timedelta(0))
    shown: float = page.evaluate("Promise.race([window.shown, new Promise(end => setTimeout(() => end(0), 20000))])")
    shutil.rmtree(layout.root)
    page.wait_for_function("name => !document.querySelector(`tr[data-name='${name}']`)", arg=layout.root.name)
    return shown / 1000 - at if shown else float("inf")


def measure(number: int, rounds: int, seed: int) -> tuple[list[tuple[float, float]], list[float]]:
    """(first screen, all) of each cold start, and the delay of each new run."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        make_many(runs, number, seed)
        starts = [cold(runs, number) for _ in range(rounds)]
        with chromium() as browser, dashboard(runs) as address:
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.goto(address)
            page.wait_for_function(ALL_SHOWN % number, timeout=120_000)
            return starts, [appear(page, runs, index) for index in range(4 * rounds)]


def main(argv: list[str]) -> None:
    """Run the benchmark and report."""
    parser = parser_of("overview", __doc__)
    parser.add_argument("--runs", type=int, default=2000, help="runs in the folder")
    parser.add_argument("--rounds", type=int, default=5, help="cold starts; four new runs are made for each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    starts, new = measure(args.runs, args.rounds, args.seed)
    first, everything = [one[0] for one in starts], [one[1] for one in starts]
    rows: list[dict[str, object]] = [
        {"what": "cold start to the first screen of the table", **summary(first)},
        {"what": "cold start to all runs, logs read", **summary(everything)},
        {"what": "new run to its row", **summary(new)},
    ]
    figures: dict[str, object] = {
        "cold_s": round(statistics.median(first), 3), "cold_all_s": round(statistics.median(everything), 3),
        "new_run_s": round(statistics.median(new), 3), "new_run_max_s": round(max(new), 3), "runs": args.runs, "rounds": args.rounds,
    }  # fmt: skip
    report("overview", rows, figures)


def summary(values: list[float]) -> dict[str, object]:
    """Median and extremes, in seconds."""
    return {
        "median_s": round(statistics.median(values), 3),
        "min_s": round(min(values), 3),
        "max_s": round(max(values), 3),
        "n": len(values),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
