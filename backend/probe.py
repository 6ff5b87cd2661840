"""The fixed probe set of stays: the same patients at every evaluation, in eval mode, with per-event errors in clinical units."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from backend.batches import Batch, Standardiser, StayDataset, fixed_batches
from backend.lit import SeqSetVAEModule
from backend.loss import Gaussian
from backend.posterior import between_and_within, dimension_kinds, level_scalars, relative_to
from backend.snapshots import ProbeResult, probe_moments
from shared.collapse import Thresholds

SAMPLED_SETS = 2048
"""Sets whose latents and events are kept in a snapshot: the same at every step."""


@contextmanager
def evaluating(module: L.LightningModule) -> Iterator[None]:
    """Eval mode without gradients; mode and random state are as before afterwards."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[module.device] if module.device.type == "cuda" else []):
            yield
    finally:
        for m in training:
            m.training = True


@dataclass(frozen=True)
class Part:
    """What one batch of the probe gives, on the CPU: S sets, E events, D latent dimensions."""

    mu: Tensor
    logvar: Tensor
    prior: Gaussian
    row: Tensor
    set_row: Tensor
    minute: Tensor
    recon: Tensor
    error: Tensor
    error_swapped: Tensor
    event_set: Tensor
    variable: Tensor
    value: Tensor
    mean: Tensor
    std: Tensor | None


class StayProbe:
    """Evaluates SeqSetVAE on up to `patients` stays of a data set, in clinical units.

    A split too small for a verdict (32 stays) is topped up from the training split; `probe_from_train` in the totals says
    by how many. The posterior of those may look a little better than that of unseen stays.
    """

    def __init__(self, dataset: StayDataset, patients: int, batch_size: int = 32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(dataset.rows)[:patients])
        missing = min(patients, Thresholds.minimum_patients) - len(rows)
        more = np.setdiff1d(dataset.data.split_indices("train"), rows)
        more = rng.permutation(more)[:missing] if missing > 0 else more[:0]
        self.from_train = len(more)
        rows = np.concatenate([rows, np.sort(more)])
        self.dataset = dataset
        self.patients = len(rows)
        self.batches = [dataset[own] for own in fixed_batches(rows, batch_size)]
        sets = sorted(row for batch in self.batches for row in batch.set_row.tolist())
        self.sampled = np.sort(rng.permutation(sets)[:SAMPLED_SETS])
        self.scaler = Standardiser(dataset.data)
        self.names = np.array([v.name for v in dataset.data.info.variables])

    def __call__(self, module: L.LightningModule) -> ProbeResult:
        """All figures of one evaluation. Raises TypeError for a module that is not SeqSetVAE."""
        if not isinstance(module, SeqSetVAEModule):
            raise TypeError(f"StayProbe evaluates SeqSetVAEModule, not {type(module).__name__}")
        with evaluating(module):
            torch.manual_seed(0)
            parts = [probe_part(module, batch.to(module.device)) for batch in self.batches]
        mu, logvar = torch.cat([p.mu for p in parts]), torch.cat([p.logvar for p in parts])
        prior = Gaussian(torch.cat([p.prior.mu for p in parts]), torch.cat([p.prior.logvar for p in parts]))
        moments, values = probe_moments(mu, logvar, prior)
        relative = relative_to(prior, mu, logvar)
        values |= level_scalars(moments, module.config.model.levels) | self._totals(parts, relative.mu)
        dims, latent = mu.shape[1], module.config.model.latent_dim
        posterior = pd.DataFrame(
            {
                "level": np.arange(dims) // latent,
                "dim": np.arange(dims) % latent,
                "kl": moments.mean_kl,
                "mi_gauss": moments.mi_gauss,
                "prior_gap": moments.prior_gap,
                "mean_mu": moments.mean_mu,
                "var_mu": moments.var_mu,
                "mean_variance": moments.mean_variance,
                "active": moments.active,
                "kind": dimension_kinds(moments.var_mu, moments.mean_variance, relative.logvar.exp().var(dim=0)),
            }
        )
        return ProbeResult(values, posterior, self._latents(parts, mu, logvar), self._events(parts))

    def _totals(self, parts: list[Part], mu: Tensor) -> dict[str, Any]:
        stay = torch.unique(torch.cat([p.row for p in parts]), return_inverse=True)[1]
        between, within = between_and_within(mu, stay, self.patients)
        error = torch.cat([p.error for p in parts]).mean()
        swapped = torch.cat([p.error_swapped for p in parts]).mean()
        return {
            "recon": float(torch.cat([p.recon for p in parts]).mean()),
            "decoder_reliance": _known(float((swapped - error) / error)) if self.patients > 1 else None,
            "var_between": _known(between),
            "var_within": _known(within),
            "patients": self.patients,
            **({"probe_from_train": self.from_train} if self.from_train else {}),
        }

    def _latents(self, parts: list[Part], mu: Tensor, logvar: Tensor) -> pd.DataFrame:
        keep = np.isin(torch.cat([p.set_row for p in parts]).numpy(), self.sampled)
        rows = torch.cat([p.row for p in parts]).numpy()[keep]
        table = self.dataset.data.stays.iloc[rows]
        return pd.DataFrame(
            {
                "stay_id": table["stay_id"].to_numpy(),
                "set_row": torch.cat([p.set_row for p in parts]).numpy()[keep],
                "minute": torch.cat([p.minute for p in parts]).numpy()[keep],
                "outcome": table[self.dataset.config.label].to_numpy(),
                "mu": list(mu.numpy()[keep].astype(np.float16)),
                "logvar": list(logvar.numpy()[keep].astype(np.float16)),
            }
        )

    def _events(self, parts: list[Part]) -> pd.DataFrame:
        return pd.concat([self._events_of(part) for part in parts], ignore_index=True)

    def _events_of(self, part: Part) -> pd.DataFrame:
        """Observed against reconstructed of the sampled sets, in the variables' own units."""
        keep = np.isin(part.set_row.numpy()[part.event_set.numpy()], self.sampled)
        at, variable = part.event_set.numpy()[keep], part.variable.numpy()[keep]
        modelled = self.scaler.modelled[variable]
        mean, std = self.scaler.mean[variable], self.scaler.std[variable]
        observed = self.dataset.data.event_value[self._event_rows(part)[keep]]
        decoded = np.where(modelled, part.mean.numpy()[keep] * std + mean, np.nan)
        spread = np.nan if part.std is None else np.where(modelled, part.std.numpy()[keep] * std, np.nan)
        return pd.DataFrame(
            {
                "stay_id": self.dataset.data.stays["stay_id"].to_numpy()[part.row.numpy()[at]],
                "minute": part.minute.numpy()[at],
                "variable": pd.Categorical(self.names[variable], categories=self.names),
                "observed": observed,
                "reconstructed": decoded,
                "std": spread,
                "error": decoded - observed,
                "error_in_std": (decoded - observed) / std,
            }
        )

    def _event_rows(self, part: Part) -> np.ndarray:
        """Where the events of a batch lie in the data set, [E]: the events of a set are consecutive in both."""
        of_set = part.event_set.numpy()
        place = np.arange(len(of_set))
        first = np.zeros(len(part.set_row), np.int64)
        first[of_set[::-1]] = place[::-1]
        return self.dataset.data.set_start[part.set_row.numpy()[of_set]] + place - first[of_set]


def _known(value: float) -> float | None:
    """None for what a small probe leaves undefined; a NaN in the log would read as a broken posterior, which `kl` tells."""
    return None if math.isnan(value) else value


def probe_part(module: SeqSetVAEModule, batch: Batch) -> Part:
    """One batch, decoded from its own latents and from latents swapped between patients."""
    net = module.net
    encoded = net.encode(batch, sample=True)
    table = net.encoder.embed.table

    def decoded(z: Tensor) -> Tensor:
        return net.decoder_state(z, net.states(z, batch) if module.uses_sequence else z)

    own = decoded(encoded.z)
    swapped = decoded(encoded.z[swap_between_stays(batch)])
    guess = net.decoder.reconstruct(own, batch, table)
    parts = Part(
        encoded.posterior.mu, encoded.posterior.logvar, encoded.prior, batch.row[batch.stay_of_set], batch.set_row,
        batch.minute, net.decoder.loss(own, batch, table), net.decoder.error(own, batch, table),
        net.decoder.error(swapped, batch, table), batch.set_of_event, batch.variable, batch.value, guess.mean, guess.std,
    )  # fmt: skip
    return Part(*(_on_cpu(x) for x in vars(parts).values()))


def _on_cpu(x: Any) -> Any:
    if isinstance(x, Gaussian):
        return Gaussian(x.mu.cpu(), x.logvar.cpu())
    return x.cpu() if isinstance(x, Tensor) else x


def swap_between_stays(batch: Batch) -> Tensor:
    """For each set [S], a set of another stay: the stays trade places in a ring, each set taking one at the same share of time."""
    count = torch.bincount(batch.stay_of_set, minlength=batch.stays)
    first = count.cumsum(0) - count
    other = (batch.stay_of_set + 1) % batch.stays
    share = batch.position_of_set * count[other] // count[batch.stay_of_set]
    return first[other] + share
