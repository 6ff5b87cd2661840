"""Toy VAEs of the proving ground with remedies: many trainings side by side, each watched by a detector of its own.

The remedies are those that Lightning calls; here each is called with what it needs to know of its training, and nothing more.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from backend.aggressive import AggressiveEncoder
from backend.beta_control import INFORMATION
from backend.on_collapse import OnCollapse
from backend.posterior import SCALARS
from shared.collapse import Verdict
from shared.detector import Detector
from tests.benchmarks.proving_ground.networks import Encoded, Parameters
from tests.benchmarks.proving_ground.probing import row_of_probe, true_figures
from tests.benchmarks.proving_ground.settings import Settings
from tests.benchmarks.proving_ground.training import Trainings


class Patient:
    """One training as remedies see it: a module to act on, a trainer, a monitor and the record of the run, all in one."""

    def __init__(self, settings: Settings, action: str) -> None:
        self.free_bits = settings.free_bits
        self.decoder_logvar = nn.Parameter(2 * torch.tensor(settings.std).log(), requires_grad=False)
        self.world_size, self.estimated_stepping_batches, self.global_step = 1, settings.steps, 0
        self.info, self.recorder = SimpleNamespace(lineage=None), self
        self.strategy = SimpleNamespace(broadcast=lambda told: told)
        self.row: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.evaluated_step, self.figures = 0, torch.zeros(len(SCALARS))
        self.alarm: int | None = None
        self.told: list[str] = []
        self._betas = settings.real_beta()
        self._set: float | None = None
        self._detector = Detector(settings.config(), max_steps=settings.steps)
        self.acting = OnCollapse(self, action)  # type: ignore[arg-type]
        self.acting.on_train_start(self, self)  # type: ignore[arg-type]

    @property
    def beta_max(self) -> float:
        """The fault included."""
        return float(self._betas.max())

    @property
    def scheduled_beta(self) -> float:
        """Without a remedy."""
        return float(self._betas[min(self.global_step, len(self._betas) - 1)])

    @property
    def beta(self) -> float:
        """As applied."""
        return self.scheduled_beta if self._set is None else self._set

    @beta.setter
    def beta(self, value: float) -> None:
        self._set = value

    @property
    def verdicts(self) -> list[Verdict]:
        """All that hold."""
        return self._detector.verdicts

    @property
    def leads(self) -> bool:
        """Whether its encoder is trained ahead."""
        remedy = self.acting.remedy
        return isinstance(remedy, AggressiveEncoder) and remedy.began is not None and not remedy.over

    @property
    def extra(self) -> int:
        """Steps of its encoder alone."""
        return getattr(self.acting.remedy, "extra", 0)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The ward takes the extra steps itself, for all trainings at once."""
        raise AssertionError

    def evaluations(self, kind: str) -> list[dict[str, Any]]:
        """As of a run's record."""
        return self.rows

    def event(self, kind: str, step: int, message: str, /, **data: Any) -> None:
        """As of a run's record."""
        self.told.append(f"step {step}: {message}")

    def stepped(self, step: int, information: float, row: dict[str, Any] | None) -> None:
        """One more optimizer step, and perhaps an evaluation after it."""
        self.global_step = step
        self.figures[INFORMATION] = information
        if row is not None:
            self.row, self.evaluated_step = row, step
            self.rows.append(row)
            self._detector.probe(row)
            if self.alarm is None and any(verdict.severity == "alarm" for verdict in self.verdicts):
                self.alarm = step
        self.acting.on_train_batch_end(self, self, None, None, 0)  # type: ignore[arg-type]


class Ward(Trainings):
    """Trainings of one shape in lockstep; each is given its own answer to a collapse."""

    def __init__(self, settings: Sequence[Settings], seeds: Sequence[int], actions: Sequence[str]) -> None:
        super().__init__(settings, seeds)
        self.patients = [Patient(own, action) for own, action in zip(settings, actions, strict=True)]
        start = [patient.decoder_logvar.detach() for patient in self.patients]
        self.parameters["decoder_logvar"] = torch.stack(start)[:, None, None]
        self.moments["decoder_logvar"] = (torch.zeros(len(start), 1, 1), torch.zeros(len(start), 1, 1))
        self._ahead = {name: (torch.zeros_like(a), torch.zeros_like(b)) for name, (a, b) in self.moments.items()}
        self._information = torch.zeros(len(start))

    def treat(self, every: int) -> None:
        """Train all to the end, with an evaluation every so many steps."""
        for _ in range(self.one.steps):
            for r, patient in enumerate(self.patients):
                self.courses["beta"][self.step, r] = patient.beta
            self._lead()
            self._advance()
            with torch.no_grad():
                due = self.step % every == 0
                for r, patient in enumerate(self.patients):
                    patient.stepped(self.step, float(self._information[r]), row_of_probe(self, r) if due else None)
            self._mirror()

    def figures(self, r: int) -> dict[str, float]:
        """At the end, on the full data."""
        with torch.no_grad():
            found = true_figures(self, r)
        return {name: float(value) for name, value in found.items() if value.ndim == 0}

    def _mirror(self) -> None:
        """What remedies have set goes into the settings that the loss reads."""
        logvar = self.parameters["decoder_logvar"].flatten().tolist()
        for r, patient in enumerate(self.patients):
            std = math.exp(0.5 * logvar[r]) if patient.decoder_logvar.requires_grad else self.all[r].std
            if (self.all[r].free_bits, self.all[r].std) != (patient.free_bits, std):
                self.all[r] = replace(self.all[r], free_bits=patient.free_bits, std=std)

    def _lead(self) -> None:
        """The extra steps of encoders: those of the main training, kept for these parameters of these trainings alone."""
        chosen = torch.tensor([patient.leads for patient in self.patients])[:, None, None]
        if not bool(chosen.any()):
            return
        step, moments = self.step, self.moments
        for _ in range(AggressiveEncoder.EXTRA):
            before: Parameters = {name: p.detach().clone() for name, p in self.parameters.items()}
            self.moments = self._ahead
            self._advance()
            self.log.pop()
            self.step, self.moments = step, moments
            for name, old in before.items():
                if name.startswith("decoder"):
                    self.parameters[name] = old
                else:
                    self.parameters[name] = torch.where(chosen, self.parameters[name].detach(), old)
        for patient in self.patients:
            if patient.leads:
                patient.acting.remedy.extra += AggressiveEncoder.EXTRA  # type: ignore[union-attr]

    def recon(self, x: Tensor, mean: Tensor) -> Tensor:
        """With a decoder's variance that is learned where a remedy has freed it."""
        logvar = self.parameters["decoder_logvar"]
        free = torch.tensor([patient.decoder_logvar.requires_grad for patient in self.patients])[:, None, None]
        logvar = torch.where(free, logvar, logvar.detach())
        squares = (x - mean).square() * (-logvar).exp() + logvar + math.log(2 * math.pi)
        return 0.5 * squares.sum(dim=2).mean(dim=1)

    def _kl_of_loss(self, encoded: Encoded) -> Tensor:
        """On its way, the information of the batch, as the monitor measures it."""
        mu, logvar = (part.detach() for part in encoded.posterior)
        if encoded.prior is not None:
            mu = (mu - encoded.prior.mu.detach()) * (-0.5 * encoded.prior.logvar.detach()).exp()
            logvar = logvar - encoded.prior.logvar.detach()
        spread = mu.var(dim=1, correction=0) + logvar.exp().mean(dim=1)
        self._information = 0.5 * (spread.log() - logvar.mean(dim=1)).sum(dim=1)
        return super()._kl_of_loss(encoded)
