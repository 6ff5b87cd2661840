"""What the posterior monitor costs when it runs at every step, as a share of step time; probes have a budget of their own.

Default model, simulated stays, batch 4, accumulation 2. `overhead` is the time inside the monitor's hooks over the wall time
of the same steps: the two share every disturbance, so it holds on a busy machine. Beside it stands the median step of
interleaved runs with and without the monitor, which scatters by more than the figure itself.
"""

import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from backend import monitor as monitor_module
from backend.preparing import build
from backend.simulate import Simulation
from backend.training import train
from shared.configuring import build_config
from shared.layout import RunLayout
from shared.reader import JsonlTail
from tests.benchmarks.harness import parser_of, report

WARM_UP = 5


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = parser_of("callback_overhead", __doc__)
    parser.add_argument("--pairs", type=int, default=5, help="runs with and without the monitor [5]")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of a run [40]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads [1]")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            build(Simulation(200, 0), base / "stays", seed=0, valid=0.1, test=0.1)
        rows = [pair(base, number, args.steps, args.threads) for number in range(1, args.pairs + 1)]
    report(
        "callback_overhead", rows,
        {
            "overhead": median(rows, "overhead"),
            "paired_wall_clock": median(rows, "on_s") / median(rows, "off_s") - 1,
            "monitor_ms_per_step": median(rows, "monitor_ms"),
            "step_s": median(rows, "on_s"),
            "steps": args.steps,
        },
    )  # fmt: skip


def median(rows: list[dict[str, Any]], name: str) -> float:
    """Median of one column."""
    return statistics.median(row[name] for row in rows)


def pair(base: Path, number: int, steps: int, threads: int) -> dict[str, Any]:
    """A run with the monitor, its hooks timed, and one without."""
    on, spent = timed_run(base / f"on-{number}", base / "stays", steps, threads, monitor=True)
    off, _ = timed_run(base / f"off-{number}", base / "stays", steps, threads, monitor=False)
    return {
        "pair": number,
        "overhead": sum(spent[WARM_UP:]) / sum(on[WARM_UP:]),
        "monitor_ms": 1000 * statistics.median(spent[WARM_UP:]),
        "on_s": statistics.median(on[WARM_UP:]),
        "off_s": statistics.median(off[WARM_UP:]),
    }


def timed_run(out: Path, stays: Path, steps: int, threads: int, *, monitor: bool) -> tuple[list[float], list[float]]:
    """Seconds of each step as the run's log has them, and seconds inside the monitor during each."""
    per_batch: list[float] = []
    original = monitor_module.PosteriorMetricsMonitor.on_train_batch_end

    def timed(self: Any, *args: Any) -> None:
        started = time.perf_counter()
        original(self, *args)
        per_batch.append(time.perf_counter() - started)

    options = {
        "data_dir": str(stays), "output_dir": str(out), "max_steps": steps, "accelerator": "cpu", "cpu_threads": threads,
        "batch_size": 4, "gradient_accumulation_steps": 2, "val_check_interval": 1.0, "update_frequency": 10**9,
        "plot_frequency": 10**9, "checkpoint_every_n_steps": 10**9, "disable_metrics_monitoring": not monitor,
    }  # fmt: skip
    monitor_module.PosteriorMetricsMonitor.on_train_batch_end = timed  # type: ignore[method-assign, assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if train(build_config(options)) != 0:
                raise SystemExit("training failed")
    finally:
        monitor_module.PosteriorMetricsMonitor.on_train_batch_end = original  # type: ignore[method-assign]
    (run,) = out.iterdir()
    times = [float(row["step_s"]) for row in JsonlTail(RunLayout(run).metrics).read()]
    return times, [sum(per_batch[i : i + 2]) for i in range(0, len(per_batch), 2)]
