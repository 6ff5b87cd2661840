"""Stays per second of forward, backward and step, against a naive per-stay, per-set loop of the same model, or padded blocks.

    python -m tests.benchmarks train_throughput --data prepared/physionet2012
    python -m tests.benchmarks train_throughput --padded
    python -m tests.benchmarks train_throughput --older-sizes

Without --data, PhysioNet 2012 is prepared from ../shared/data. With --padded the baseline is the same network on padded blocks
(`tests.padded`). CPU seconds are taken with one thread: two threads wait for each other in a spin that counts as CPU time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from backend.batches import Batch, StayDataset
from backend.build import build_module
from backend.lit import SeqSetVAEModule
from backend.store import PreparedDataset
from shared.configuring import build_config
from tests import padded, reference
from tests.benchmarks.attainable import attainable
from tests.benchmarks.harness import parser_of, report

RAW = Path(__file__).parents[3] / "shared" / "data" / "physionet2012"
OLDER = {
    "latent_dim": 256, "width": 256, "levels": 2, "set_attention": "induced", "inducing_points": 16, "set_heads": 2,
    "embedding_dim": 768,
}  # fmt: skip
REPEATS = 5
T = TypeVar("T")


def main(argv: list[str]) -> None:
    """Measure and report."""
    parser = parser_of("train_throughput", __doc__)
    parser.add_argument("--data", type=Path, help="prepared PhysioNet 2012")
    parser.add_argument("--older-sizes", action="store_true", help="the older system's sizes, both decoders")
    parser.add_argument("--padded", action="store_true", help="against padded blocks, at batch 32")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument(
        "--loop", action=argparse.BooleanOptionalAction, default=True, help="against the naive loop, which is slow"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    with prepared(options.data) as data:
        if options.older_sizes:
            older_sizes(data)
        elif options.padded:
            against_padded(data, options.threads)
        else:
            by_batch(data, options.batch_sizes, options.threads, loop=options.loop)


@contextmanager
def prepared(path: Path | None) -> Iterator[PreparedDataset]:
    """The data set in a folder; PhysioNet 2012 prepared for the occasion where none is given."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder) / "physionet2012"
            subprocess.run([sys.executable, "-m", "backend", "prepare", "physionet2012", str(RAW), str(path)], check=True)
        yield PreparedDataset.open(path)


def by_batch(data: PreparedDataset, batch_sizes: list[int], threads: int, *, loop: bool) -> None:
    """Wall clock of every batch size; with `loop` against the loop over the same stays, in turns."""
    torch.set_num_threads(threads)
    module, plain = build_module(build_config({}), data, 100), build_module(build_config({}), data, 100)
    fast, slow = stepper(module), naive_stepper(plain)
    rows: list[dict[str, object]] = []
    for size in batch_sizes:
        batches = batches_of(data, module, size, max(32 // size, 1))
        stays = [reference.split(batch) for batch in batches[:1]] if loop else []
        ours, theirs = [], []
        fast(batches[0])
        for _ in range(REPEATS):
            ours.append(timed(fast, batches, time.perf_counter))
            theirs.append(timed(slow, stays, time.perf_counter) * len(batches))
        count = sum(batch.stays for batch in batches)
        row: dict[str, object] = {"batch": size, "stays/s": count / median(ours), "ms per stay": 1000 * median(ours) / count}
        if loop:
            row["loop, ms per stay"] = 1000 * median(theirs) / count
            row["ratio"] = median(t / o for t, o in zip(theirs, ours, strict=True))
        rows.append(row)
    speed = {str(row["batch"]): float(str(row["stays/s"])) for row in rows}
    first = speed[str(batch_sizes[0])]
    figures: dict[str, object] = {"relative_by_batch": {size: each / first for size, each in speed.items()}, "threads": threads}
    if loop:
        figures["ratio_vs_loop"] = next((row["ratio"] for row in rows if row["batch"] == 16), rows[-1]["ratio"])
    report("train_throughput", rows, figures)


def against_padded(data: PreparedDataset, threads: int, size: int = 32) -> None:
    """Wall clock against padded blocks over the same batches, in turns."""
    torch.set_num_threads(threads)
    module, other = build_module(build_config({}), data, 100), build_module(build_config({}), data, 100)
    batches = batches_of(data, module, size, 4)
    grids = [padded.Grid.of(batch) for batch in batches]
    fast, dense = stepper(module), dense_stepper(other)
    ours, theirs = [], []
    for repeat in range(REPEATS + 1):
        spent = timed(fast, batches, time.perf_counter), timed(dense, grids, time.perf_counter)
        if repeat:  # the first fills caches
            ours.append(spent[0])
            theirs.append(spent[1])
    count, cells = size * len(batches), sum(grid.there.numel() for grid in grids)
    ratios = [slow / quick for slow, quick in zip(theirs, ours, strict=True)]
    rows: list[dict[str, object]] = [
        {"version": "ours", "stays/s": count / median(ours), "ms per stay": 1000 * median(ours) / count},
        {"version": "padded", "stays/s": count / median(theirs), "ms per stay": 1000 * median(theirs) / count},
    ]
    report("train_throughput", rows, {
        "ratio_vs_padded": median(ratios), "least": min(ratios), "most": max(ratios), "batch_size": size, "threads": threads,
        "events_of_cells": sum(batch.events for batch in batches) / cells,
    })  # fmt: skip


def older_sizes(data: PreparedDataset) -> None:
    """CPU seconds per stay at the older system's sizes, batch 16, one thread; beside them what matrix products reach here, for these are
    two thirds of the time and machines differ."""
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    figures: dict[str, object] = {}
    for decoder in ("likelihood", "chamfer"):
        module = build_module(build_config({**OLDER, "decoder": decoder}), data, 100)
        batches = batches_of(data, module, 16, 2)
        step = stepper(module)
        step(batches[0])
        spent = [timed(step, batches, time.process_time) / 32 for _ in range(REPEATS)]
        figures[f"cpu_s_per_stay_{decoder}"] = median(spent)
        rows.append({"decoder": decoder, "CPU s per stay": median(spent), "least": min(spent), "most": max(spent)})
    peak, _ = attainable(torch.device("cpu"), torch.float32)
    report("train_throughput", rows, {**figures, "older_sizes": True, "threads": 1, "peak_gflop_per_s": peak / 1e9})


def batches_of(data: PreparedDataset, module: SeqSetVAEModule, size: int, count: int) -> list[Batch]:
    """The first training stays, in batches."""
    dataset = StayDataset(data, "train", module.config.data)
    return [dataset[dataset.rows[i * size : (i + 1) * size].tolist()] for i in range(count)]


def stepper(module: SeqSetVAEModule) -> Callable[[Batch], None]:
    """Forward, backward, clip and step of the vectorised model."""
    module.train()
    optimizer = module.configure_optimizers()["optimizer"]

    def step(batch: Batch) -> None:
        module.training_step(batch, 0)["loss"].backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    return step


def naive_stepper(module: SeqSetVAEModule) -> Callable[[list[reference.Stay]], None]:
    """The same step of the plain loop."""
    module.train()
    optimizer = module.configure_optimizers()["optimizer"]

    def step(stays: list[reference.Stay]) -> None:
        reference.loss(module, stays, sample=True)[0].backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    return step


def dense_stepper(module: SeqSetVAEModule) -> Callable[[padded.Grid], None]:
    """The same step on padded blocks."""
    module.train()
    optimizer = module.configure_optimizers()["optimizer"]

    def step(grid: padded.Grid) -> None:
        padded.loss(module, grid, sample=True)[0].backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Callable[[T], None], batches: list[T], clock: Callable[[], float]) -> float:
    """Seconds of one pass."""
    started = clock()
    for batch in batches:
        step(batch)
    return clock() - started
