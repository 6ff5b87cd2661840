"""What one evaluation of the fixed probe costs, as a share of the training time between two of them.

Default model, simulated stays, batch 4, accumulation 2, a probe of 256 patients; the standard cadence is one in 200 steps. The
share is the mean time of an evaluation, its figures and snapshots, over the wall time of the run's 200 steps without them. More
are made than the cadence asks for, and none is left out for want of a budget: both only serve the measurement.
"""

import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

from backend.monitor import PRESETS
from backend.preparing import build
from backend.simulate import Simulation
from backend.training import train
from shared.configuring import build_config
from shared.layout import RunLayout
from shared.reader import JsonlTail
from tests.benchmarks.harness import parser_of, report

CADENCE = PRESETS["standard"][0]
PATIENTS = 256


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = parser_of("probe_cost", __doc__)
    parser.add_argument("--runs", type=int, default=2, help="runs of 200 steps [2]")
    parser.add_argument("--every", type=int, default=40, help="steps between evaluations [40]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads [1]")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            build(Simulation(600, 0), base / "stays", seed=0, valid=0.45, test=0.1)
        rows = [one_run(base, number, args.every, args.threads) for number in range(1, args.runs + 1)]
    report(
        "probe_cost", rows,
        {
            "share": statistics.median(row["share"] for row in rows),
            "probe_s": statistics.median(row["probe_s"] for row in rows),
            "steps_s": statistics.median(row["steps_s"] for row in rows),
            "patients": PATIENTS,
            "cadence": CADENCE,
        },
    )  # fmt: skip


def one_run(base: Path, number: int, every: int, threads: int) -> dict[str, Any]:
    """A training run of 200 steps, its evaluations timed by the monitor."""
    options = {
        "data_dir": str(base / "stays"), "output_dir": str(base / f"run-{number}"), "max_steps": CADENCE, "accelerator": "cpu",
        "cpu_threads": threads, "batch_size": 4, "gradient_accumulation_steps": 2, "val_check_interval": 1.0,
        "limit_val_batches": 0.01, "update_frequency": every, "probe_patients": PATIENTS, "probe_time_budget": 1.0,
        "plot_frequency": 10**9, "checkpoint_every_n_steps": 10**9,
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        if train(build_config(options)) != 0:
            raise SystemExit("training failed")
    (run,) = (base / f"run-{number}").iterdir()
    steps = [float(row["step_s"]) for row in JsonlTail(RunLayout(run).metrics).read()]
    probes = [row for row in JsonlTail(RunLayout(run).evaluations).read() if row["kind"] == "probe"]
    if len(probes) != len(steps) // every or probes[0]["patients"] != PATIENTS:
        raise SystemExit(f"{len(probes)} evaluations in {len(steps)} steps; expected one in {every}, of {PATIENTS} patients")
    spent = [float(row["probe_s"]) for row in probes]
    return {
        "run": number,
        "share": statistics.fmean(spent) / sum(steps),
        "probe_s": statistics.fmean(spent),
        "slowest_s": max(spent),
        "steps_s": sum(steps),
        "probes": len(spent),
    }
