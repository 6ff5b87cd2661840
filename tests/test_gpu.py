"""What only a GPU can show; skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import pytest
import torch

from backend import training
from backend.build import precision_of
from shared.configuring import build_config
from shared.layout import RunLayout
from shared.reader import JsonlTail
from tests.tiny_runs import TINY, stays

__all__ = ["stays"]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class NoWaiting(L.Callback):
    """After the first steps, while no probe and no validation is due, any wait for the device is an error."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if 5 <= batch_idx < 25 else "default")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def waiting_allowed_again() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "options", [{}, {"set_attention": "induced"}, {"decoder": "chamfer"}, {"gradient_checkpointing": True}]
)
@pytest.mark.usefixtures("waiting_allowed_again")
def test_no_step_waits_for_the_device_monitoring_included(
    tmp_path: Path, stays: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    plain = training.build_trainer
    monkeypatch.setattr(
        training,
        "build_trainer",
        lambda config, where, callbacks, **more: plain(config, where, [NoWaiting(), *callbacks], **more),
    )
    config = build_config({
        **TINY, "data_dir": str(stays), "output_dir": str(tmp_path / "runs"), "accelerator": "gpu", "max_steps": 30, "max_epochs": 100,
        "gradient_accumulation_steps": 1, "val_check_interval": 1.0, "update_frequency": 10**9, "checkpoint_every_n_steps": 10**9,
        "num_workers": 2, **options,
    })  # fmt: skip
    assert training.train(config) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert len(list(JsonlTail(RunLayout(run).metrics).read())) >= 30


def test_bfloat16_is_the_default_where_the_gpu_has_it() -> None:
    expected = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    assert precision_of(build_config({}), "gpu") == expected
