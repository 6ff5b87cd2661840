"""From a cold server to charts on the page, for one long run and for fifty runs; TensorBoard on the same figures beside it.

python -m tests.benchmarks first_paint --repeats 3

Each is timed from the start of the server's process to the first charts with curves in them, in a fresh browser profile; the
browser itself is already running. Here the charts in view are waited for (four of the Live page, and of Compare those of the first
screen), of TensorBoard the two cards that it draws at first.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page
from playwright.sync_api import TimeoutError as PageTimeout
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from shared.lines import between
from shared.reader import columns_of
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.long_run import METRICS, drawn, write_steps
from tests.browser.driving import chromium, open_page, serving
from tests.run_factory import make_run

LONG, MANY, MANY_STEPS = 100_000, 50, 10_000
SEEN = """(last) => {
  const cards = [...document.querySelectorAll('line-chart')];
  if (cards.length < 2) return false;
  const number = (text) => parseFloat(text.replaceAll(',', '')) * (text.endsWith('k') ? 1000 : text.endsWith('M') ? 1e6 : 1);
  return cards.slice(0, 2).every((card) => {
    const ticks = card.querySelectorAll('line-chart-axis[axis=x] text');
    if (!(Math.max(...[...ticks].map((tick) => number(tick.textContent.trim()))) > 0.7 * last)) return false;
    const canvas = card.querySelector('canvas');
    if (!canvas?.width) return false;
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    return context.getImageData(0, 0, copy.width, copy.height).data.some((value, place) => place % 4 === 3 && value > 0);
  });
}"""
"""Whether both cards of TensorBoard show curves up to the last step: it draws what it has read so far."""
CURVES = """count => [...document.querySelectorAll('.sv-card .sv-plot[data-revision]')].filter((plot) => {
  const place = plot.getBoundingClientRect();
  return place.top < innerHeight && place.bottom > 0;
}).length > 0 && [...document.querySelectorAll('.sv-card .sv-plot')].every((plot) => {
  const place = plot.getBoundingClientRect();
  return place.top >= innerHeight || plot.querySelectorAll('.scatterlayer .trace').length >= count;
})"""
"""Whether every chart on the first screen has so many curves."""


def as_tensorboard(runs: Path, logs: Path) -> None:
    """The step logs of all runs as TensorBoard event files, one event for each scalar, as torch's SummaryWriter does."""
    for run in sorted(path for path in runs.iterdir() if (path / "metrics.jsonl").exists()):
        folder = logs / run.name
        folder.mkdir(parents=True)
        columns = columns_of(between(run / "metrics.jsonl", 0, 1 << 40, 1 << 40) or b"")
        with (folder / "events.out.tfevents.1760000000.here").open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=1.76e9, file_version="brain.Event:2").SerializeToString())
            for step, row in zip(
                columns["step"].tolist(), np.column_stack([columns[name] for name in METRICS]).tolist(), strict=True
            ):
                for name, value in zip(METRICS, row, strict=True):
                    summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                    writer.write(Event(wall_time=1.76e9 + step, step=step, summary=summary).SerializeToString())


def ours(browser: Browser, runs: Path, path: str, wait: Callable[[Page], object]) -> float:
    """Seconds to the charts of one of our pages."""
    started = time.perf_counter()
    with serving(runs) as (address, _):
        page = open_page(browser, f"{address}/{path}")
        wait(page)
        seconds = time.perf_counter() - started
        page.context.close()
    return seconds


def theirs(browser: Browser, logs: Path, last: int) -> float:
    """Seconds to the first cards of TensorBoard, with curves up to the step `last`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1", "--port", str(port)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        next(line for line in process.stderr if "http://" in line)
        page = open_page(browser, f"http://127.0.0.1:{port}/")
        while True:  # the server may answer before it has read the logs; it is asked again as its users would
            try:
                page.wait_for_function(SEEN, arg=last, timeout=20_000)
                break
            except PageTimeout:
                if time.perf_counter() - started > 120:
                    raise
                page.reload()
        seconds = time.perf_counter() - started
        page.context.close()
    finally:
        process.kill()
        process.wait()
    return seconds


def measure(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat, ours and theirs in turn."""
    one, fifty, rng = folder / "one", folder / "fifty", np.random.default_rng(0)
    write_steps(make_run(one, "long", steps=10, planned=LONG), LONG, 0)
    names = [f"run-{number:02d}" for number in range(MANY)]
    for name in names:
        write_steps(make_run(fifty, name, steps=10, planned=MANY_STEPS), MANY_STEPS, int(rng.integers(1 << 30)))
    for runs in (one, fifty):
        as_tensorboard(runs, folder / f"{runs.name}-logs")
    metrics = ",".join(f"training.{name}" for name in METRICS)
    compare = "compare?" + "&".join(f"run={name}" for name in names) + f"&metrics={metrics}"
    found: dict[str, list[float]] = {"one_run": [], "one_run_tensorboard": [], "fifty_runs": [], "fifty_runs_tensorboard": []}
    with chromium() as browser:
        for _ in range(repeats):
            found["one_run"].append(ours(browser, one, "live?run=long", drawn))
            found["one_run_tensorboard"].append(theirs(browser, folder / "one-logs", LONG))
            wait = lambda page: page.wait_for_function(CURVES, arg=MANY, timeout=120_000)  # noqa: E731
            found["fifty_runs"].append(ours(browser, fifty, compare, wait))
            found["fifty_runs_tensorboard"].append(theirs(browser, folder / "fifty-logs", MANY_STEPS))
    return found


def main(argv: list[str]) -> None:
    """Run the benchmark and report."""
    parser = parser_of("first_paint", __doc__)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.repeats)
    median = {name: statistics.median(seconds) for name, seconds in found.items()}
    rows: list[dict[str, object]] = [
        {"page": name, "median_s": round(median[name], 2), "least_s": round(min(each), 2), "most_s": round(max(each), 2)}
        for name, each in found.items()
    ]
    figures: dict[str, Any] = {}
    for name in ("one_run", "fifty_runs"):
        figures[f"{name}_s"] = round(median[name], 2)
        figures[f"{name}_vs_tensorboard"] = round(median[name] / median[f"{name}_tensorboard"], 2)
    report("first_paint", rows, figures | {"repeats": args.repeats})


if __name__ == "__main__":
    main(sys.argv[1:])
