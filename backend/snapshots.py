"""What one evaluation of the fixed probe set gives, and its parquet files in the run."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from backend.loss import Gaussian
from backend.posterior import SCALARS, Moments, scalars
from backend.recorder import RunRecorder


@dataclass(frozen=True)
class ProbeResult:
    """One evaluation of the fixed probe set: totals for the log, and frames for the snapshots (see `shared.layout`)."""

    values: dict[str, Any]
    posterior: pd.DataFrame
    latents: pd.DataFrame
    reconstruction: pd.DataFrame


def write_snapshots(recorder: RunRecorder, step: int, result: ProbeResult) -> None:
    """Write the three frames, each whole or not at all; a failing disk warns and training goes on."""
    layout = recorder.layout
    try:
        for frame, path in (
            (result.posterior, layout.posterior(step)),
            (result.latents, layout.latents(step)),
            (result.reconstruction, layout.reconstruction(step)),
        ):
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_suffix(".tmp")
            try:
                frame.to_parquet(temporary, index=False)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        recorder.warn(f"snapshot of step {step} not written: {error}. Training goes on.", "snapshots")


def probe_moments(mu: Tensor, logvar: Tensor, prior: Gaussian | None) -> tuple[Moments, dict[str, Any]]:
    """Moments of a probe set and its totals by the names of `shared.metrics.PROBE`; non-finite ones are named."""
    moments = Moments.of(mu, logvar, prior)
    values = totals(moments)
    if not bool(torch.isfinite(mu).all() and torch.isfinite(logvar).all()):
        values["nonfinite"] = ["posterior"]
    return moments, values


def totals(moments: Moments) -> dict[str, Any]:
    """Totals of a sample by the names of `shared.metrics.PROBE`."""
    values: dict[str, Any] = dict(zip(SCALARS, scalars(moments).tolist(), strict=True))
    active, dims = int(moments.active.sum()), moments.mean_mu.shape[0]
    return values | {"active_units": active, "active_ratio": active / dims, "latent_dims": dims, "sets": moments.n}
