"""Two processes against one on the same whole batches: losses, posterior figures, evaluations and log, step by step, in fp32.

    python -m tests.benchmarks ddp_equality
    python -m tests.benchmarks ddp_equality --steps 60 --devices 4
    python -m tests.benchmarks ddp_equality --strategy fsdp

On simulated stays, with dropout 0, real processes of `train` on the CPU (gloo), and a last batch of each epoch that does not divide.
A difference is relative to the value, or to 0.05 where that is smaller: figures of an encoder near its prior are differences of
numbers near 1, and fp32 has seven digits of those.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from shared.layout import RunLayout, iter_runs
from shared.reader import each_row
from tests.benchmarks.harness import parser_of, report

OF_THE_CLOCK = {"time", "step_s", "wait_s", "probe_s"}
SMALLEST = 0.05
WHOLE_BATCH = 12


def main(argv: list[str]) -> None:
    """Train both, compare and report."""
    parser = parser_of("ddp_equality", __doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--devices", type=int, default=2, help="processes; has to divide 12 [2]")
    parser.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp", help="of the several [ddp]")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "stays"
        prepare = [sys.executable, "-m", "backend", "prepare", "simulate", str(data), "--patients", "201"]
        subprocess.run(prepare, check=True, capture_output=True)
        one, several = (
            trained(data, Path(folder) / f"runs-{n}", n, options.steps, options.strategy) for n in (1, options.devices)
        )
        rows, worst = [], {}
        for name, log in (("step_log", RunLayout.metrics), ("evaluation_log", RunLayout.evaluations)):
            found = differences(list(each_row(log.fget(one))), list(each_row(log.fget(several))))  # type: ignore[attr-defined]
            worst[name] = max(found.values())
            rows += [{"log": name, "figure": figure, "largest difference": found[figure]}
                     for figure in sorted(found, key=found.__getitem__, reverse=True)[:8]]  # fmt: skip
        report("ddp_equality", rows, {"max_rel_difference": max(worst.values()), **worst, "devices": options.devices,
                                      "steps": options.steps, "strategy": options.strategy})  # fmt: skip


def trained(data: Path, out: Path, devices: int, steps: int, strategy: str) -> RunLayout:
    """A run of so many processes on whole batches of 12 stays."""
    words = {
        "data_dir": data, "output_dir": out, "devices": devices, "strategy": strategy, "batch_size": WHOLE_BATCH // devices, "max_steps": steps,
        "accelerator": "cpu", "cpu_threads": 1, "dropout": 0, "gradient_accumulation_steps": 2, "max_epochs": 1000,
        "lr_warmup_steps": 10, "beta_warmup_steps": 20, "update_frequency": 10, "probe_time_budget": 1, "val_check_interval": 0.5,
    }  # fmt: skip
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, "-m", "backend", "train", *options], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{devices} processes ended with {done.returncode}: {done.stderr[-2000:]}")
    (run,) = iter_runs(out)
    return run


def differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, float]:
    """The largest difference of each figure; infinite where one log has what the other has not."""
    if [row["step"] for row in ours] != [row["step"] for row in theirs]:
        return {"steps": float("inf")}
    found: dict[str, float] = {}
    for row, other in zip(ours, theirs, strict=True):
        for name in (row.keys() | other.keys()) - OF_THE_CLOCK - {"per_dim"}:  # that is rounded to four digits
            found[name] = max(found.get(name, 0.0), difference(row.get(name), other.get(name)))
    return found


def difference(one: Any, other: Any) -> float:
    """Of two numbers; of anything else 0 where it is the same."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) / max(abs(one), abs(other), SMALLEST)
    return 0.0 if one == other else float("inf")
