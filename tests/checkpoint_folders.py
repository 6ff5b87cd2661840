"""Checkpoints in every state, small and quick to make, for tests of what reads them."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from shared.config import TrainConfig
from shared.layout import RunLayout
from shared.schema import CheckpointSidecar
from shared.writer import write_record


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def contents(step: int, seed: int = 0, precision: torch.dtype = torch.float32, **config: Any) -> dict[str, Any]:
    """As the trainer writes it, with a network of three layers."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 6))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 6)).sum().backward()
    optimizer.step()
    options = TrainConfig().model_dump(mode="json")
    for name, value in config.items():
        options["loss"][name] = value
    own = {
        "config": options,
        "fingerprint": "0" * 64,
        "epoch": step / 400,
        "batches": step,
        "batch_size": 4,
        "settled": True,
        "steered": {},
    }
    return {
        "epoch": 0, "global_step": step, "pytorch-lightning_version": "2.6.6", "seqsetvae": own,
        "state_dict": {f"net.{name}": value.to(precision) for name, value in model.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
    }  # fmt: skip


def save(layout: RunLayout, name: str, kind: str, step: int, **options: Any) -> Path:
    """A checkpoint with its sidecar."""
    layout.checkpoints.mkdir(exist_ok=True)
    path = layout.checkpoints / name
    torch.save(contents(step, **options), path)
    describe(path, kind, step)
    return path


def describe(path: Path, kind: str, step: int) -> None:
    """The sidecar of a checkpoint as it is now."""
    data = path.read_bytes()
    sidecar = CheckpointSidecar(
        kind=kind, file=path.name, step=step, epoch=step / 400, metrics={"auroc": 0.8123, "elbo": -20.5} if kind == "best" else {},
        config={}, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    write_record(path.with_suffix(".json"), sidecar)


def every_state(layout: RunLayout, outside: Path) -> None:
    """One checkpoint of each state that the page must know; `outside` is a file outside the run."""
    last = save(layout, "last.ckpt", "last", 900, seed=2)
    twin = layout.checkpoints / "earlier_step-000000900.ckpt"
    os.link(last, twin)
    describe(twin, "earlier", 900)
    save(layout, "best_step-000000500_auroc-0.8123.ckpt", "best", 500, seed=1)
    flipped = save(layout, "final_step-000000900.ckpt", "final", 900, seed=2)
    data = bytearray(flipped.read_bytes())
    data[data.index(contents(900, seed=2)["state_dict"]["net.0.weight"].numpy().tobytes())] ^= 1
    flipped.write_bytes(data)
    cut = save(layout, "interrupted_step-000000700.ckpt", "interrupted", 700)
    cut.write_bytes(cut.read_bytes()[:5000])
    save(layout, "earlier_step-000000300.ckpt", "earlier", 300).with_suffix(".json").unlink()
    save(layout, "earlier_step-000000400.ckpt", "earlier", 400).with_suffix(".json").write_text("{ torn")
    save(layout, "earlier_step-000000600.ckpt", "earlier", 600).unlink()
    shutil.copy(last, layout.checkpoints / "last.ckpt.tmp")
    (layout.checkpoints / "sneaky.ckpt").symlink_to(outside)
    evil = {
        "state_dict": {"w": torch.tensor([1.0, torch.nan])},
        "hyper_parameters": {"<img src=x onerror=alert(1)>": Evil(f"touch {outside}.ran")},
    }
    torch.save(evil, layout.checkpoints / "weights.ckpt")
