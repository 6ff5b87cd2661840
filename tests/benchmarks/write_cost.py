"""Microseconds to log one training step of 8 scalars, beside the usual ways in the same run."""

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from shared.writer import JsonlWriter
from tests.benchmarks.harness import report

LogStep = Callable[[int, dict[str, float]], None]
NAMES = ("loss", "recon", "kl", "beta", "lr", "grad_norm", "posterior_variance", "step_s")
WARM_UP = 200


def main(argv: list[str]) -> None:
    """Time every writer on the same rows, then print microseconds per step and ratios against ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="steps timed per writer")
    parser.add_argument("--dir", type=Path, default=None, help="folder to write to (default: a temporary one)")
    options = parser.parse_args(argv)
    rows = scalar_rows(options.steps)
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        measured = {name: run(Path(folder), rows) for name, run in WRITERS.items()}
    report("write_cost", table_rows(measured), figures(measured, options.steps))


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


def time_jsonl_writer(folder: Path, rows: list[dict[str, float]]) -> tuple[np.ndarray, float]:
    """`shared.writer.JsonlWriter`: one unbuffered write per line."""
    path = folder / "ours.jsonl"
    writer = JsonlWriter(path)
    taken = timed(writer.write, rows)
    writer.close()
    return taken, path.stat().st_size / len(rows)


def time_flushed(encode: Callable[[dict[str, float]], bytes]) -> Callable[..., tuple[np.ndarray, float]]:
    """The plain way: encode, write to a buffered file, flush."""

    def run(folder: Path, rows: list[dict[str, float]]) -> tuple[np.ndarray, float]:
        path = folder / "flushed.jsonl"
        with path.open("wb") as file:

            def log_step(step: int, values: dict[str, float]) -> None:
                file.write(encode({"step": step, **values}))
                file.flush()

            taken = timed(log_step, rows)
        return taken, path.stat().st_size / len(rows)

    return run


def time_summary_writer(folder: Path, rows: list[dict[str, float]]) -> tuple[np.ndarray, float] | None:
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


WRITERS: dict[str, Callable[[Path, list[dict[str, float]]], tuple[np.ndarray, float] | None]] = {
    "JsonlWriter": time_jsonl_writer,
    "orjson_flush": time_flushed(lambda row: orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)),
    "json_flush": time_flushed(lambda row: json.dumps(row).encode() + b"\n"),
    "summary_writer": time_summary_writer,
}


def table_rows(measured: dict[str, tuple[np.ndarray, float] | None]) -> list[dict[str, object]]:
    """One row per writer; an absent one says so."""
    rows: list[dict[str, object]] = []
    for name, result in measured.items():
        if result is None:
            rows.append({"writer": f"{name} (absent: tensorboard is not installed)"})
            continue
        taken, size = result
        rows.append({
            "writer": name,
            "mean us": taken.mean() / 1e3,
            "median us": float(np.median(taken)) / 1e3,
            "p99 us": float(np.quantile(taken, 0.99)) / 1e3,
            "bytes/step": size,
        })  # fmt: skip
    return rows


def figures(measured: dict[str, tuple[np.ndarray, float] | None], steps: int) -> dict[str, object]:
    """The JSON figures: ours, and for each other writer how many times ours it takes (mean over mean)."""
    ours = measured["JsonlWriter"]
    assert ours is not None
    taken, size = ours
    ratios = {
        f"{name}_over_ours": None if result is None else round(float(result[0].mean() / taken.mean()), 3)
        for name, result in measured.items()
        if name != "JsonlWriter"
    }
    return {
        "steps": steps,
        "us_per_step": round(float(taken.mean()) / 1e3, 3),
        "p99_us": round(float(np.quantile(taken, 0.99)) / 1e3, 3),
        "bytes_per_step": round(size, 1),
        **ratios,
    }
