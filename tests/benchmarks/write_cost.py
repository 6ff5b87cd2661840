"""Microseconds to log one training step of 8 scalars, beside the usual ways in the same run."""

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from shared.writer import JsonlWriter
from tests.benchmarks.harness import parser_of, report

Timing = tuple[np.ndarray, float]
"""Nanoseconds of each step, and bytes per step."""
LogStep = Callable[[int, dict[str, float]], None]
NAMES = ("loss", "recon", "kl", "beta", "lr", "grad_norm", "posterior_variance", "step_s")
WARM_UP = 200


def main(argv: list[str]) -> None:
    """Time every writer on the same rows, round by round, then print microseconds per step and ratios against ours."""
    parser = parser_of("write_cost", __doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="steps timed per writer and round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the writers take turns, so that a busy moment hits all")
    parser.add_argument("--dir", type=Path, default=None, help="folder to write to (default: a temporary one)")
    options = parser.parse_args(argv)
    rows = scalar_rows(options.steps)
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            rounds.append({name: run(Path(folder), rows) for name, run in WRITERS.items()})
    measured = {name: summed_up([result for one in rounds if (result := one[name])]) for name in WRITERS}
    report("write_cost", table_rows(measured), figures(measured, options.steps, options.rounds))


def scalar_rows(steps: int) -> list[dict[str, float]]:
    """Random full-precision values: round numbers would make every line shorter than real ones."""
    values = np.random.default_rng(0).lognormal(size=(steps + WARM_UP, len(NAMES)))
    return [dict(zip(NAMES, row, strict=True)) for row in values.tolist()]


def timed(log_step: LogStep, rows: list[dict[str, float]]) -> np.ndarray:
    """Nanoseconds of each call after the warm-up."""
    taken = np.empty(len(rows), dtype=np.int64)
    for step, row in enumerate(rows):
        start = time.perf_counter_ns()
        log_step(step, row)
        taken[step] = time.perf_counter_ns() - start
    return taken[WARM_UP:]


def time_jsonl_writer(folder: Path, rows: list[dict[str, float]]) -> Timing:
    """`shared.writer.JsonlWriter`: one unbuffered write per line."""
    path = folder / "ours.jsonl"
    writer = JsonlWriter(path)
    taken = timed(writer.write, rows)
    writer.close()
    return taken, path.stat().st_size / len(rows)


def time_flushed(encode: Callable[[dict[str, float]], bytes]) -> Callable[..., Timing]:
    """The plain way: encode, write to a buffered file, flush."""

    def run(folder: Path, rows: list[dict[str, float]]) -> Timing:
        path = folder / "flushed.jsonl"
        with path.open("wb") as file:

            def log_step(step: int, values: dict[str, float]) -> None:
                file.write(encode({"step": step, **values}))
                file.flush()

            taken = timed(log_step, rows)
        return taken, path.stat().st_size / len(rows)

    return run


def time_summary_writer(folder: Path, rows: list[dict[str, float]]) -> Timing | None:
    """TensorBoard's writer, one `add_scalar` per value; its own thread writes, so a kill loses up to 120 s of steps."""
    if not (importlib.util.find_spec("tensorboard") and importlib.util.find_spec("torch")):
        return None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log_step(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    taken = timed(log_step, rows)
    writer.close()
    size = sum(path.stat().st_size for path in (folder / "tensorboard").iterdir())
    return taken, size / len(rows)


WRITERS: dict[str, Callable[[Path, list[dict[str, float]]], Timing | None]] = {
    "JsonlWriter": time_jsonl_writer,
    "orjson_flush": time_flushed(lambda row: orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)),
    "json_flush": time_flushed(lambda row: json.dumps(row).encode() + b"\n"),
    "summary_writer": time_summary_writer,
}


@dataclass(frozen=True)
class Cost:
    """Microseconds per step. `mean` is the median over rounds of the mean, which one busy round cannot move."""

    mean: float
    median: float
    p99: float
    bytes_per_step: float


def summed_up(rounds: list[Timing]) -> Cost | None:
    """The rounds of one writer as one cost; None when it is absent."""
    if not rounds:
        return None
    taken = np.concatenate([nanoseconds for nanoseconds, _ in rounds]) / 1e3
    mean = float(np.median([nanoseconds.mean() for nanoseconds, _ in rounds])) / 1e3
    return Cost(mean, float(np.median(taken)), float(np.quantile(taken, 0.99)), rounds[0][1])


def table_rows(measured: dict[str, Cost | None]) -> list[dict[str, object]]:
    """One row per writer; an absent one says so."""
    return [
        {"writer": f"{name} (absent: tensorboard is not installed)"}
        if cost is None
        else {
            "writer": name,
            "mean us": cost.mean,
            "median us": cost.median,
            "p99 us": cost.p99,
            "bytes/step": cost.bytes_per_step,
        }
        for name, cost in measured.items()
    ]


def figures(measured: dict[str, Cost | None], steps: int, rounds: int) -> dict[str, object]:
    """The JSON figures: ours, and for each other writer how many times ours it takes (mean over mean)."""
    ours = measured["JsonlWriter"]
    assert ours is not None
    ratios = {
        f"{name}_over_ours": None if cost is None else round(cost.mean / ours.mean, 3)
        for name, cost in measured.items()
        if name != "JsonlWriter"
    }
    return {
        "steps": steps,
        "rounds": rounds,
        "us_per_step": round(ours.mean, 3),
        "median_us": round(ours.median, 3),
        "p99_us": round(ours.p99, 3),
        "bytes_per_step": round(ours.bytes_per_step, 1),
        **ratios,
    }
