"""Writes run directories in every state through the trainer's own writer, for tests of what reads them."""

import math
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from shared.config import TrainConfig
from shared.layout import RunLayout
from shared.schema import DatasetSummary, Event, Heartbeat, RunInfo, RunState, Session, now
from shared.verdicts import replay_run, verdict_data
from shared.writer import JsonlWriter, encode_line, write_record

DIMS = 64
WARMUP = 500
GONE_PID = 2**22 - 3
"""Above any process number in use here."""


def make_run(
    runs: Path, name: str, *, steps: int = 1000, state: RunState = RunState.FINISHED, collapse: bool = False, simulated: bool = True,
    pid: int | None = None, silent: timedelta = timedelta(0), age: timedelta = timedelta(hours=2), error: str | None = None,
    planned: int | None = 2000, nan_from: int | None = None,
) -> RunLayout:  # fmt: skip
    """One run with `steps` steps; `silent` is how long ago its last heartbeat was."""
    layout = RunLayout(runs / name)
    layout.root.mkdir(parents=True)
    began, pid = now() - age, os.getpid() if pid is None else pid
    config = TrainConfig().model_dump()
    config["loss"]["beta_warmup_steps"] = WARMUP
    command = ["python", "-m", "backend", "train"]
    session = Session(started_at=began, from_step=0, pid=pid, host=socket.gethostname(), command=command)
    dataset = DatasetSummary(
        path="prepared/demo", name="simulated ICU" if simulated else "PhysioNet 2012", source="simulate", fingerprint="0" * 64,
        simulated=simulated, stays={"train": 800, "valid": 100, "test": 100}, variables=37,
    )  # fmt: skip
    info = RunInfo(
        name=name, created_at=began, state=state, state_since=now() - silent, config=config, device="NVIDIA H200", precision="bf16-mixed",
        dataset=dataset, parameters=1_234_567, max_steps=planned, sessions=[session], error=error,
    )  # fmt: skip
    write_record(layout.run_json, info)
    if state is not RunState.CREATED:
        beat(layout, steps, pid=pid, silent=silent, planned=planned)
        write_logs(layout, steps, collapse, nan_from)
    return layout


def beat(
    layout: RunLayout, step: int, *, pid: int | None = None, silent: timedelta = timedelta(0), planned: int | None = 2000
) -> None:
    """Write the heartbeat."""
    left = (planned - step) / 3.2 if planned else None
    record = Heartbeat(
        at=now() - silent, pid=pid or os.getpid(), host=socket.gethostname(), phase="training", step=step, epoch=step / 400,
        max_steps=planned, steps_per_s=3.2, stays_per_s=51.0, eta_s=left,
    )  # fmt: skip
    write_record(layout.heartbeat, record)


def write_logs(layout: RunLayout, steps: int, collapse: bool = False, nan_from: int | None = None) -> None:
    """Metrics of each step, evaluations and events, in a plausible shape."""
    rng = np.random.default_rng(0)
    layout.metrics.write_bytes(
        b"".join(encode_line(step, training_row(step, rng, collapse, nan_from)) for step in range(1, steps + 1))
    )
    rows = [encode_line(step, probe_row(step, rng, collapse)) for step in range(50, steps + 1, 50)]
    rows += [encode_line(step, validation_row(step, rng)) for step in range(100, steps + 1, 100)]
    layout.evaluations.write_bytes(b"".join(rows))
    events = JsonlWriter(layout.events)
    events.write_record(Event(step=0, kind="state", message="running"))
    for step in range(100, steps + 1, 500):
        events.write_record(Event(step=step, kind="checkpoint", message=f"saved best_{step}.ckpt (AUROC 0.81)"))
    for verdict in replay_run(layout).verdicts:
        events.write_record(Event(step=steps, kind="verdict", message=verdict.title, data=verdict_data(verdict)))
    events.close()


def _kl(step: int, collapse: bool) -> float:
    start = 40 * math.exp(-step / 120)
    return start + (0.02 if collapse else 4.5 * (1 - math.exp(-step / 300)))


def training_row(step: int, rng: np.random.Generator, collapse: bool = False, nan_from: int | None = None) -> dict[str, Any]:
    """One line of metrics.jsonl. The reconstruction starts near 1,000, as the real one does."""
    noise = 1 + 0.06 * rng.standard_normal()
    recon = (38 + 960 * math.exp(-step / 15)) * noise
    kl, beta = _kl(step, collapse) * noise, min(step / WARMUP, 1) * 0.1
    broken = nan_from is not None and step >= nan_from
    ready = step >= 16
    share = 0.02 if collapse and step > 300 else min(1.0, 0.3 + step / 900)
    prediction = (0.35 + 0.4 * math.exp(-step / 200)) * noise
    return {
        "loss": math.nan if broken else recon + beta * kl + prediction, "recon": math.nan if broken else recon, "kl": kl,
        "kl_loss": max(kl, 0.1 * DIMS), "prediction": prediction, "elbo": -(recon + kl), "beta": beta,
        "lr": 3e-4 * min(step / 200, 1.0), "grad_norm": 1.5 * abs(noise) + 20 * math.exp(-step / 10), "step_s": 0.31 * abs(noise),
        "wait_s": 0.003 * abs(noise),
        "stays": 16, "sets": 1100, "posterior_variance": 0.995 if collapse and step > 300 else 0.55 + 0.4 * math.exp(-step / 150),
        "active_units": round(share * DIMS) if ready else None, "active_ratio": share if ready else None,
        "active_ratio_variance": 1.0, "mi_gauss": 0.9 * kl,
    }  # fmt: skip


def probe_row(step: int, rng: np.random.Generator, collapse: bool = False) -> dict[str, Any]:
    """One probe evaluation."""
    kl = _kl(step, collapse)
    share = 0.0 if collapse and step > 300 else min(1.0, 0.3 + step / 900)
    return {
        "kind": "probe", "kl": kl, "mi_gauss": 0.01 if collapse and step > 300 else 0.8 * kl, "active_units": round(share * DIMS),
        "active_ratio": share, "active_ratio_variance": 1.0, "posterior_variance": 0.99 if collapse else 0.6,
        "recon": 36 + 500 * math.exp(-step / 20),
        "decoder_reliance": 0.005 if collapse else 0.3 + 0.02 * rng.standard_normal(), "var_between": 0.2, "var_within": 0.1,
        "patients": 256, "sets": 18000, "latent_dims": DIMS, "probe_s": 0.8,
    }  # fmt: skip


def validation_row(step: int, rng: np.random.Generator) -> dict[str, Any]:
    """One validation."""
    auroc = 0.86 - 0.3 * math.exp(-step / 250) + 0.008 * rng.standard_normal()
    return {
        "kind": "validation", "auroc": auroc, "auprc": auroc - 0.36, "accuracy": 0.88, "positives": 0.14,
        "loss": 40 + 300 * math.exp(-step / 60),
        "recon": 37.0, "kl": _kl(step, False), "prediction": 0.38, "elbo": -41.0, "stays": 100, "labelled": 98,
    }  # fmt: skip


def make_zoo(runs: Path) -> None:
    """One run of every state that a page must know."""
    runs.mkdir(parents=True, exist_ok=True)
    hours = [timedelta(hours=number) for number in range(20)]
    make_run(runs, "healthy-running", state=RunState.RUNNING, steps=1200, age=hours[1])
    make_run(runs, "collapsed-running", state=RunState.RUNNING, steps=900, collapse=True, age=hours[2])
    make_run(runs, "just-created", state=RunState.CREATED, age=timedelta(minutes=1))
    make_run(runs, "physionet-finished", steps=2000, simulated=False, age=hours[5])
    make_run(runs, "interrupted-by-user", state=RunState.INTERRUPTED, age=hours[6])
    make_run(
        runs,
        "failed-out-of-memory",
        state=RunState.FAILED,
        error="CUDA out of memory: <b>tried</b> to allocate 2 GiB",
        age=hours[7],
    )
    make_run(runs, "stale-heartbeat", state=RunState.RUNNING, silent=timedelta(minutes=12), age=hours[8])
    make_run(runs, "dead-process", state=RunState.RUNNING, pid=GONE_PID, silent=timedelta(minutes=2), age=hours[9])
    make_run(runs, "nan-running", state=RunState.RUNNING, nan_from=700, age=hours[10])
    torn = make_run(runs, "torn-log", age=hours[11])
    lines = torn.metrics.read_bytes().splitlines(keepends=True)
    torn.metrics.write_bytes(b"".join([*lines[:300], b'{"v":1,"step":30\x00\n', *lines[300:]]))
    make_run(runs, "<img src=x onerror=alert(1)>", steps=120, age=hours[12])
    broken = RunLayout(runs / "broken-json")
    broken.root.mkdir()
    broken.run_json.write_text("{ this is not json")
