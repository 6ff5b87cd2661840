"""Preparing and training on 50 times the data: events per second against 1 time, and what preparing it takes.

    python -m tests.benchmarks data_scale                 # 400,000 simulated stays, 165 million events: 1.5 GB in a temporary folder
    python -m tests.benchmarks data_scale --stays 2000    # a small one

Preparing is one command of a fresh process. Training is loader and step of one small model, a few steps on either data set in
turns, with no loader process, so that every read is in the time that is measured: once with the files put out of the page cache
before, and once with all of them in it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from backend.batches import Batch, StayDataset, loader
from backend.build import build_module
from backend.store import PreparedDataset
from backend.token_batches import stream
from shared.config import TrainConfig
from shared.configuring import build_config
from tests.benchmarks.harness import REPOSITORY, parser_of, report
from tests.benchmarks.prepare import peak_memory
from tests.benchmarks.train_throughput import stepper

SMALL = {
    "width": 32, "latent_dim": 16, "levels": 1, "transformer_layers": 1, "transformer_heads": 2, "set_heads": 2,
    "batch_events": 8000, "accelerator": "cpu",
}  # fmt: skip
EPOCHS = 1000
"""More than are ever drawn."""


def main(argv: list[str]) -> None:
    """Prepare both, train on both, report."""
    parser = parser_of("data_scale", __doc__)
    parser.add_argument("--stays", type=int, default=400_000, help="stays of the large data set (default: 400,000)")
    parser.add_argument("--factor", type=int, default=50, help="how much smaller the small one is (default: 50)")
    parser.add_argument("--rounds", type=int, default=40, help="turns of training on both (default: 40)")
    parser.add_argument("--steps", type=int, default=6, help="steps of a turn (default: 6)")
    parser.add_argument("--folder", type=Path, help="where the data sets are made and removed again (default: the system's)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        rows = [prepared(small, max(options.stays // options.factor, 10)), prepared(large, options.stays)]
        config = build_config(SMALL)
        (cold, _), (warm, work) = (
            rate_ratios(small, large, config, options.rounds, options.steps, read=read) for read in (forgotten, cached)
        )
    figures: dict[str, object] = {
        "rate_ratio": round(median(warm), 4),
        "rate_ratio_quartiles": [round(sorted(warm)[len(warm) * k // 4], 4) for k in (1, 3)],
        "rate_ratio_cpu": round(median(work), 4),
        "rate_ratio_from_disk": round(median(cold), 4),
        **{key: rows[1][key] for key in ("prepare_peak_gb", "prepare_events_per_s", "events", "stays")},
        "rounds": options.rounds,
    }
    report("data_scale", rows, figures)


def prepared(out: Path, stays: int) -> dict[str, object]:
    """One preparation of simulated stays: its size, events per second of wall clock, peak memory in GB (10^9) over all processes."""
    command = [sys.executable, "-m", "backend", "prepare", "simulate", str(out), "--patients", str(stays)]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        peak = peak_memory(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"prepare ended with status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    events = PreparedDataset.open(out).info.events
    return {
        "stays": stays, "events": events, "seconds": seconds, "cpu_s": cpu, "prepare_events_per_s": round(events / seconds),
        "prepare_peak_gb": round(peak / 1e9, 3), "out_gb": sum(file.stat().st_size for file in out.iterdir()) / 1e9,
    }  # fmt: skip


def forgotten(folder: Path) -> None:
    """Put the files out of the page cache, as those of data larger than memory mostly are."""
    for path in folder.glob("*.npy"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def cached(folder: Path) -> None:
    """Read all files once."""
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def rate_ratios(
    small: Path, large: Path, config: TrainConfig, rounds: int, steps: int, *, read: Callable[[Path], None]
) -> list[list[float]]:
    """Events per second on the large data set over those on the small one, of every turn: by wall clock, by processor time."""
    for folder in (small, large):
        read(folder)
    step = stepper(build_module(config, PreparedDataset.open(small), 100))
    streams = [batches_of(folder, config) for folder in (small, large)]
    for batches in streams:  # the first step of a process is slow
        step(next(batches))
    ratios = []
    for turn in range(rounds):
        rates, work = [0.0, 0.0], [0.0, 0.0]
        for which in (0, 1) if turn % 2 else (1, 0):
            began, busy, events = time.perf_counter(), time.process_time(), 0
            for batch in islice(streams[which], steps):
                step(batch)
                events += batch.events
            rates[which] = events / (time.perf_counter() - began)
            work[which] = events / (time.process_time() - busy)
        ratios.append((rates[1] / rates[0], work[1] / work[0]))
    return [list(each) for each in zip(*ratios, strict=True)]


def batches_of(folder: Path, config: TrainConfig) -> Iterator[Batch]:
    """What training would load, made where it is asked for."""
    dataset, order = stream(StayDataset(PreparedDataset.open(folder), "train", config.data), config, EPOCHS)
    return iter(loader(dataset, order, 0, False))
