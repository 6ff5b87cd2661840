"""What a trainer knows of where it runs, and the scalars of its newest step: for a run that a callback opened."""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from torch import Tensor

from backend.attach import Host


def host_of(trainer: L.Trainer, module: L.LightningModule) -> Host:
    """What a trainer knows of where it runs."""
    planned = trainer.estimated_stepping_batches
    return Host(
        str(module.device),
        int(planned) if math.isfinite(planned) and planned >= 0 else None,
        str(trainer.precision),
        sum(p.numel() for p in module.parameters() if p.requires_grad),
    )


def logged_scalars(
    trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch_idx: int
) -> dict[str, Tensor | float | None]:
    """Scalars of this step: what the module logged, what `training_step` returned, epoch, learning rate and beta."""
    found: dict[str, Any] = dict(trainer.callback_metrics)
    if isinstance(outputs, Mapping):
        found |= outputs
    scalars: dict[str, Tensor | float | None] = {
        name: value.detach()
        for name, value in found.items()
        if isinstance(value, Tensor) and value.numel() == 1 and " " not in name
    }
    batches = trainer.num_training_batches
    if 0 < batches < math.inf:
        scalars["epoch"] = trainer.current_epoch + (batch_idx + 1) / batches
    if trainer.optimizers:
        scalars["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
    own = getattr(module, "beta", None)
    if "beta" not in scalars and isinstance(own, int | float):
        scalars["beta"] = float(own)
    return scalars
