"""What `--gradient_checkpointing` saves and costs: bytes kept for the backward pass, and CPU time of a step.

    python -m tests.benchmarks recompute --data prepared/physionet2012

The default model and the older system's sizes with either decoder, 16 stays, one thread; plain and recomputing steps in turns.
"""

import time
from pathlib import Path
from statistics import median

import torch

from backend.build import build_module
from shared.configuring import build_config
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.train_throughput import OLDER, batches_of, prepared, stepper, timed
from tests.kept import kept_for_backward

MODELS: dict[str, dict[str, object]] = {
    "default": {},
    "older sizes": OLDER,
    "older sizes, chamfer": {**OLDER, "decoder": "chamfer"},
}


def main(argv: list[str]) -> None:
    """Measure and report."""
    parser = parser_of("recompute", __doc__)
    parser.add_argument("--data", type=Path, help="prepared PhysioNet 2012")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with prepared(options.data) as data:
        for name, sizes in MODELS.items():
            modules = [build_module(build_config({**sizes, "gradient_checkpointing": on}), data, 100) for on in (False, True)]
            batches = batches_of(data, modules[0], 16, 1)
            kept = [kept_for_backward(module, batches[0])[0] / 1e6 for module in modules]
            steps = [stepper(module) for module in modules]
            ratios = []
            for repeat in range(options.repeats + 1):
                plain, again = (timed(step, batches, time.process_time) for step in steps)
                if repeat:
                    ratios.append(again / plain)
            rows.append(
                {
                    "model": name,
                    "kept, MB": kept[0],
                    "recomputing, MB": kept[1],
                    "kept": kept[1] / kept[0],
                    "time": median(ratios),
                }
            )
    report("recompute", rows, {str(row["model"]): {"kept": row["kept"], "time": row["time"]} for row in rows})
