"""Training runs of a second or two on simulated stays, and what two of them have to share to count as equal."""

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.checkpoints import load_checkpoint
from backend.preparing import build
from backend.resume import open_resume
from backend.simulate import Simulation
from backend.training import train
from shared.configuring import build_config
from shared.layout import RunLayout
from shared.reader import JsonlTail, read_record
from shared.schema import RunInfo

TIMES = {"step_s", "wait_s", "probe_s", "time"}
TINY = {
    "width": 16, "latent_dim": 4, "levels": 1, "transformer_layers": 1, "transformer_heads": 2, "set_heads": 1,
    "batch_size": 4, "gradient_accumulation_steps": 2, "max_epochs": 3, "val_check_interval": 0.3,
    "checkpoint_every_n_steps": 3, "learning_rate": 3e-3, "lr_warmup_steps": 4, "beta_warmup_steps": 10,
    "update_frequency": 4, "plot_frequency": 1000, "probe_time_budget": 1.0, "cpu_threads": 1, "accelerator": "cpu",
}  # fmt: skip


def prepare_cohort(folder: Path, patients: int = 60, seed: int = 0) -> Path:
    build(Simulation(patients, seed), folder, seed=seed, valid=0.2, test=0.1)
    return folder


@pytest.fixture(scope="session")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 simulated stays, prepared."""
    return prepare_cohort(tmp_path_factory.mktemp("data") / "stays")


def start(data: Path, out: Path, **options: Any) -> RunLayout:
    """A new run; it has to finish."""
    assert attempt(data, out, **options) == 0
    return newest(out)


def attempt(data: Path, out: Path, **options: Any) -> int:
    return train(build_config({**TINY, "data_dir": str(data), "output_dir": str(out), **options}))


def go_on(target: Path, **options: Any) -> int:
    """Resume a run folder or a checkpoint."""
    resume = open_resume(target)
    return train(build_config(options, base=resume.config()), resume)


def newest(out: Path) -> RunLayout:
    return RunLayout(max((p for p in out.iterdir() if (p / "run.json").exists()), key=lambda p: p.stat().st_mtime_ns))


def rows(path: Path) -> list[dict[str, Any]]:
    """A log without what the clock decides; it has to be whole."""
    tail = JsonlTail(path)
    found = [{k: v for k, v in row.items() if k not in TIMES} for row in tail.read()]
    assert tail.problems == []
    return found


def metrics(layout: RunLayout) -> list[dict[str, Any]]:
    return rows(layout.metrics)


def evaluations(layout: RunLayout, kind: str) -> list[dict[str, Any]]:
    return [row for row in rows(layout.evaluations) if row["kind"] == kind]


def events(layout: RunLayout, kind: str) -> list[dict[str, Any]]:
    return [row for row in rows(layout.events) if row["kind"] == kind]


def info(layout: RunLayout) -> RunInfo:
    return read_record(layout.run_json, RunInfo)


def weights(layout: RunLayout) -> dict[str, torch.Tensor]:
    (path,) = layout.checkpoints.glob("final_*.ckpt")
    return load_checkpoint(path)["state_dict"]


def assert_same_run(run: RunLayout, undisturbed: RunLayout) -> None:
    """Every step and validation exactly once, with the same figures, and the same weights at the end."""
    assert [row["step"] for row in metrics(run)] == [row["step"] for row in metrics(undisturbed)]
    assert metrics(run) == metrics(undisturbed)
    for kind in ("validation", "probe"):
        assert evaluations(run, kind) == evaluations(undisturbed, kind)
    ours, theirs = weights(run), weights(undisturbed)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert info(run).state == "finished"
    assert not list(run.root.rglob("*.tmp"))
    checkpoints = {path.stem for path in run.checkpoints.glob("*.ckpt")}
    assert checkpoints == {path.stem for path in run.checkpoints.glob("*.json")}
