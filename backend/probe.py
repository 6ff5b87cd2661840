"""The fixed probe set of stays: the same patients at every evaluation, in eval mode, with per-event errors in clinical units."""

import lightning as L
import numpy as np
import pandas as pd
import torch

from backend.any_probe import evaluating
from backend.batches import Standardiser, StayDataset
from backend.lit import SeqSetVAEModule
from backend.loss import Gaussian, beta_at
from backend.presence import presence_frame
from backend.probe_observed import observed_frame
from backend.probe_parts import DecodedPart, EventTable, SetPart, decoded_part, encoded_part
from backend.probe_row import Latents, known
from backend.probe_sample import SampleSize, choose
from backend.reliance import occurrence_residuals, reconstruction_figures
from backend.snapshots import ProbeResult
from backend.terminal import counted
from shared.collapse import Thresholds
from shared.dataset import VariableInfo

MANY = 8
"""Batches whose progress is worth showing."""
COLUMNS = 256
"""Variables, the most often recorded, whose residuals are set against each other: a table of sets and variables."""


class StayProbe:
    """Evaluates SeqSetVAE on a fixed sample of up to `patients` stays, in clinical units; see `backend.probe_sample`.

    A split too small for a verdict (32 stays) is topped up from the training split; `probe_from_train` in the totals says
    by how many. The posterior of those may look a little better than that of unseen stays.
    """

    def __init__(self, dataset: StayDataset, patients: int, seed: int = 0, size: SampleSize | None = None) -> None:
        self.dataset = dataset
        self.sample = choose(dataset, patients, seed, size)
        self.scaler = Standardiser(dataset.data)
        self.column = columns_of(dataset.data.info.variables, self.scaler.modelled)
        self.names = np.array([v.name for v in dataset.data.info.variables])
        self.units = {v.name: v.unit for v in dataset.data.info.variables if v.unit}
        self.observed = observed_frame(dataset, self.sample.rows, self.sample.pictured)

    def __call__(self, module: L.LightningModule) -> ProbeResult:
        """All figures of one evaluation. Raises TypeError for a module that is not SeqSetVAE."""
        if not isinstance(module, SeqSetVAEModule):
            raise TypeError(f"StayProbe evaluates SeqSetVAEModule, not {type(module).__name__}")
        sample, levels = self.sample, module.config.model.levels
        with evaluating(module):
            torch.manual_seed(0)
            whole = counted(sample.whole, "stays") if len(sample.whole) >= MANY else sample.whole
            decoded = DecodedPart.joined([decoded_part(module, batch.to(module.device)) for batch in whole])
            thinned = [encoded_part(module, batch.to(module.device)) for batch in sample.thinned]
        encoded = SetPart.joined([decoded.sets, *thinned])
        sets = encoded.only(sample.sets)
        latents = Latents.of(sets.mu, sets.logvar, Gaussian(sets.prior_mu, sets.prior_logvar), patient=sets.row)
        values = latents.row(levels) | {"beta": beta_of(module)}
        if sample.from_train:
            values["probe_from_train"] = sample.from_train
        if sample.patients >= Thresholds.minimum_patients:
            values |= {"decoded_patients": sample.decoded, **self._figures(decoded)}
        pictured = self._latents(encoded.only(sample.pictured), decoded)
        return ProbeResult(
            values, latents.frame(levels), pictured, self._events(decoded), self._presence(decoded), observed=self.observed
        )

    def _figures(self, decoded: DecodedPart) -> dict[str, float | None]:
        """What the decoder makes of the latents."""
        error, swapped = float(decoded.error.mean()), float(decoded.error_swapped.mean())
        table = EventTable(decoded, torch.from_numpy(self.column))
        std = None if decoded.std.isnan().all() else table(decoded.std)
        values = {"recon": float(decoded.recon.mean()), "decoder_reliance": (swapped - error) / error}
        values |= reconstruction_figures(
            table(decoded.value), table(decoded.mean), std=std, mask=table.mask, beside=self._occurrence(decoded, table)
        )
        return {name: known(value) for name, value in values.items()}

    def _occurrence(self, decoded: DecodedPart, table: EventTable) -> torch.Tensor | None:
        if not decoded.occurrence.shape[1]:
            return None
        variables = torch.from_numpy(np.flatnonzero(self.column >= 0))
        place = torch.from_numpy(self.column)[variables].argsort()
        return occurrence_residuals(table.mask, decoded.occurrence[:, variables[place]])

    def _latents(self, sets: SetPart, decoded: DecodedPart) -> pd.DataFrame:
        """Latents to be drawn, with the transformer's state where it is known: in stays that are decoded."""
        table = self.dataset.data.stays.iloc[sets.row.numpy()]
        frame = pd.DataFrame(
            {
                "stay_id": table["stay_id"].to_numpy(),
                "set_row": sets.set_row.numpy(),
                "minute": sets.minute.numpy(),
                "outcome": table[self.dataset.config.label].to_numpy(),
                "mu": list(sets.mu.numpy().astype(np.float16)),
                "logvar": list(sets.logvar.numpy().astype(np.float16)),
                "sampled": np.isin(sets.set_row.numpy(), self.sample.sets),
            }
        )
        if decoded.state.shape[1]:
            known = dict(zip(decoded.sets.set_row.tolist(), decoded.state.numpy().astype(np.float16), strict=True))
            frame["state"] = pd.Series([known.get(row) for row in sets.set_row.tolist()], dtype=object)
        return frame

    def _events(self, decoded: DecodedPart) -> pd.DataFrame:
        """Observed against reconstructed, in the variables' own units."""
        keep = np.isin(decoded.sets.set_row.numpy()[decoded.event_set.numpy()], self.sample.shown)
        at, variable = decoded.event_set.numpy()[keep], decoded.variable.numpy()[keep]
        modelled = self.scaler.modelled[variable]
        mean, std = self.scaler.mean[variable], self.scaler.std[variable]
        observed = self.dataset.data.event_value[self._event_rows(decoded)[keep]]
        guessed = np.where(modelled, decoded.mean.numpy()[keep] * std + mean, np.nan)
        frame = pd.DataFrame(
            {
                "stay_id": self.dataset.data.stays["stay_id"].to_numpy()[decoded.sets.row.numpy()[at]],
                "minute": decoded.sets.minute.numpy()[at],
                "variable": pd.Categorical.from_codes(variable, categories=pd.Index(self.names)),
                "observed": observed,
                "reconstructed": guessed,
                "std": np.where(modelled, decoded.std.numpy()[keep] * std, np.nan),
                "error": guessed - observed,
                "error_in_std": (guessed - observed) / std,
            }
        )
        frame.attrs["units"] = self.units
        return frame

    def _presence(self, decoded: DecodedPart) -> pd.DataFrame | None:
        """Which variables were expected in the sets whose events are shown."""
        shown = np.flatnonzero(np.isin(decoded.sets.set_row.numpy(), self.sample.shown))
        stay = self.dataset.data.stays["stay_id"].to_numpy()[decoded.sets.row.numpy()[shown]]
        return presence_frame(decoded, shown, stay, self.names)

    def _event_rows(self, decoded: DecodedPart) -> np.ndarray:
        """Where the events lie in the data set, [E]: the events of a set are consecutive in both."""
        of_set = decoded.event_set.numpy()
        place = np.arange(len(of_set))
        first = np.zeros(len(decoded.sets.set_row), np.int64)
        first[of_set[::-1]] = place[::-1]
        return self.dataset.data.set_start[decoded.sets.set_row.numpy()[of_set]] + place - first[of_set]


def columns_of(variables: list[VariableInfo], modelled: np.ndarray) -> np.ndarray:
    """Column of each variable in the table, [V]: the most often recorded that are modelled, -1 for the rest."""
    often = np.argsort([-v.count if keep else 1 for v, keep in zip(variables, modelled, strict=True)], kind="stable")
    chosen = often[: min(COLUMNS, int(modelled.sum()))]
    column = np.full(len(variables), -1)
    column[chosen] = np.arange(len(chosen))
    return column


def beta_of(module: SeqSetVAEModule) -> float | None:
    """Weight of the KL at the module's next step; None where nothing is decoded."""
    if not module.uses_decoder:
        return None
    given = getattr(module, "beta", None)
    if given is not None:
        return float(given)
    return beta_at(module.global_step or module.trained_steps, module.config.loss)
