"""What `--compile_model` costs at first and gains later: warm-up, time of a step, and graphs compiled over batches of many shapes.

    python -m tests.benchmarks compile_gain --data prepared/physionet2012
    python -m tests.benchmarks compile_gain --older-sizes

Every batch has other numbers of stays' sets and events. A recompilation storm would show as graphs that grow with the batches; the
steps after which the warm-up is paid back follow from both times, on a GPU; on a CPU the time of a step is processor time. Plain and
compiled steps take turns over the same batches.
"""

import time
from pathlib import Path
from statistics import median

import torch
from torch._dynamo.utils import counters

from backend.build import build_module
from shared.configuring import build_config
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.train_throughput import OLDER, batches_of, prepared, stepper, timed

REPEATS = 3


def main(argv: list[str]) -> None:
    """Measure and report."""
    parser = parser_of("compile_gain", __doc__)
    parser.add_argument("--data", type=Path, help="prepared PhysioNet 2012")
    parser.add_argument("--older-sizes", action="store_true", help="the older system's sizes")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    with prepared(options.data) as data:
        sizes = OLDER if options.older_sizes else {}
        plain, compiled = (build_module(build_config({**sizes, "compile_model": on}), data, 100) for on in (False, True))
        batches = batches_of(data, plain, options.batch_size, options.batches)
        usual, fast = stepper(plain), stepper(compiled)
        clock = time.perf_counter if torch.cuda.is_available() else time.process_time
        usual(batches[0])
        began = time.perf_counter()
        fast(batches[0])
        warm_up = time.perf_counter() - began
        at_first = graphs()
        usual_s, fast_s = [], []
        for repeat in range(REPEATS + 1):
            spent = timed(usual, batches, clock), timed(fast, batches, clock)
            if repeat:  # what is compiled for another shape is counted, and is not the time of a step
                usual_s.append(spent[0] / len(batches))
                fast_s.append(spent[1] / len(batches))
    gained = median(usual_s) - median(fast_s)
    paid_back = gained > 0 and clock is time.perf_counter  # compilers are processes of their own, whose time this one's is not
    rows: list[dict[str, object]] = [
        {"version": "plain", "ms per step": 1000 * median(usual_s)},
        {"version": "compiled", "ms per step": 1000 * median(fast_s)},
    ]
    report("compile_gain", rows, {
        "ratio": median(slow / quick for slow, quick in zip(usual_s, fast_s, strict=True)), "warm_up_s": warm_up,
        "graphs_after_one_batch": at_first, "graphs_after_all": graphs(), "batches": len(batches), "batch_size": options.batch_size,
        "steps_to_pay_back": warm_up / gained if paid_back else None, "older_sizes": options.older_sizes, "threads": options.threads,
    })  # fmt: skip


def graphs() -> int:
    """Graphs that torch.compile has made in this process."""
    return counters["stats"]["unique_graphs"]
