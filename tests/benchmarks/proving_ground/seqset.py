"""SeqSetVAE itself on simulated stays, healthy and with faults: the product's own network, loss and probe in a plain loop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import torch
from torch import Tensor, nn

from backend.batches import Batch, StayDataset, StaySampler, fixed_batches
from backend.build import build_module
from backend.decoders import LikelihoodDecoder
from backend.lit import SeqSetVAEModule
from backend.loss import Gaussian
from backend.model import Encoded, SeqSetVAE, carried_forward
from backend.preparing import build
from backend.probe import StayProbe, evaluating
from backend.probe_parts import DecodedPart, decoded_part
from backend.probe_row import Latents
from backend.simulate import Simulation
from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.schedule import BetaSchedule
from shared.writer import encode_line
from tests.benchmarks.proving_ground.settings import Course, course, evenly
from tests.benchmarks.proving_ground.watched import Watched

PATIENTS, PROBE, FULL = 700, 64, 200
"""Simulated stays, and those of them in the probe and in the full data."""
SMALL = {
    "width": 24, "latent_dim": 16, "levels": 1, "transformer_layers": 1, "transformer_heads": 2, "set_heads": 1, "dropout": 0.0,
    "batch_size": 16, "max_sequence_length": 12, "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "lr_warmup_steps": 20,
    "lr_schedule": "constant", "free_bits": 0.0, "beta_schedule": "constant", "beta_warmup_steps": 0, "gradient_clip_val": 5.0,
}  # fmt: skip


@dataclass(frozen=True)
class StaySettings:
    """One training of SeqSetVAE: its options, and what they do not say."""

    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 300
    evaluations: int = 100
    bypass: str = ""
    """the decoder also sees what was measured last: up to the set itself (current) or to the one before (previous)"""
    beta_factor: Course = ((0, 1.0),)
    lr_fault: Course = ((0, 1.0),)
    nan_at: int = 0
    train_stays: int | None = None
    """of how many the training split is; all unless given"""

    @property
    def architecture(self) -> str:
        """The network's name."""
        return "seqset"

    @property
    def dims(self) -> int:
        """Latents of all levels."""
        model = self.train_config(0).model
        return model.latent_dim * model.levels

    def fault_at(self) -> int:
        """The step from which something differs from the configuration; 0 where it does from the start."""
        changes = [steps[1][0] for steps in (self.beta_factor, self.lr_fault) if len(steps) > 1]
        return min(changes + ([self.nan_at] if self.nan_at else []), default=0)

    def real_beta(self) -> np.ndarray:
        """Beta of each step as applied, [steps]."""
        plan = BetaSchedule.of(self.config())
        assert plan is not None
        return np.array([plan.at(step) for step in range(self.steps)]) * course(self.beta_factor, self.steps)

    def train_config(self, seed: int) -> TrainConfig:
        """All options."""
        return build_config({**SMALL, **self.options, "seed": seed})

    def config(self) -> dict[str, Any]:
        """The part of run.json that a detector reads."""
        whole = self.train_config(0).model_dump()
        kept = {
            "model": ("latent_dim", "levels"),
            "loss": ("beta_schedule", "beta_max", "beta_warmup_steps", "beta_cycle_ramp", "free_bits", "free_bits_mode"),
            "optim": ("learning_rate", "lr_warmup_steps"),
        }
        return {group: {name: whole[group][name] for name in names} for group, names in kept.items()}


class BypassVAE(SeqSetVAE):
    """A decoder that also sees a causal state built from the measurements themselves, not from sampled latents."""

    def __init__(self, *args: Any, previous: bool) -> None:
        super().__init__(*args)
        variables, width = args[2].shape[0], self.config.width
        self.previous = previous
        self.variables = variables
        self.around = nn.Sequential(nn.Linear(3 * variables, width), nn.GELU(), nn.Linear(width, width))
        self._beside: Tensor | None = None

    def encode(self, batch: Batch, sample: bool) -> Encoded:
        """Also keeps what the decoder is going to see of this batch."""
        measured = carried_forward(batch, self.variables)
        if self.previous:
            measured = measured.roll(1, dims=0) * (batch.position_of_set > 0)[:, None]
        self._beside = self.around(measured.asinh())
        return super().encode(batch, sample)

    def decoder_state(self, z_SD: Tensor, state_SW: Tensor) -> Tensor:
        """The latent's state and the state beside it."""
        assert self._beside is not None
        return super().decoder_state(z_SD, state_SW) + self._beside


def modelled(net: SeqSetVAE) -> Tensor:
    """Which variables have values that are decoded, [V]."""
    assert isinstance(net.decoder, LikelihoodDecoder)
    return net.decoder.modelled_V


def cohort(folder: Path, seed: int) -> PreparedDataset:
    """Simulated stays: most for training, the rest for probe (valid) and truth (test)."""
    build(Simulation(PATIENTS, seed), folder, seed=seed, valid=PROBE / PATIENTS, test=FULL / PATIENTS)
    return PreparedDataset.open(folder)


def make(settings: StaySettings, data: PreparedDataset, seed: int) -> SeqSetVAEModule:
    """The module, with a bypass where it has one."""
    config = settings.train_config(seed)
    module = build_module(config, data, settings.steps)
    if settings.bypass:
        torch.manual_seed(seed)
        net = module.net
        module.net = BypassVAE(net.config, config.loss, modelled(net), previous=settings.bypass == "previous")
    return module


def watch(settings: Sequence[StaySettings], seeds: Sequence[int], with_probe: bool = True) -> list[Watched]:
    """Run trainings one after the other, each with its own seed."""
    return [train(own, seed, with_probe) for own, seed in zip(settings, seeds, strict=True)]


def train(settings: StaySettings, seed: int, with_probe: bool = True) -> Watched:
    """One training, watched on the probe and on the full data."""
    with TemporaryDirectory() as folder:
        data = cohort(Path(folder) / "stays", seed)
        module = make(settings, data, seed)
        train_set, valid, test = (StayDataset(data, split, module.config.data) for split in ("train", "valid", "test"))
        probe, full = StayProbe(valid, PROBE), [test[rows] for rows in fixed_batches(test.rows, 48)]
        due = evenly(settings.steps, settings.evaluations)
        log, probes, truth = [], [], []
        for step, row in enumerate(steps_of(settings, module, train_set, seed), start=1):
            log.append(row)
            if step in due:
                truth.append(true_figures(full, module))
                if with_probe:
                    probes.append(orjson.loads(encode_line(step, probe(module).values)))
        columns = {name: np.array([row[name] for row in log]) for name in log[0]}
        return Watched.of(due, probes, columns, {name: np.stack([each[name] for each in truth]) for name in truth[0]})


def steps_of(settings: StaySettings, module: SeqSetVAEModule, data: StayDataset, seed: int) -> Iterator[dict[str, float]]:
    """Train step by step; the row of each step."""
    chosen = module.configure_optimizers()
    optimizer, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]  # type: ignore[index]
    rows = data.rows[: settings.train_stays]
    batches = iter(StaySampler(rows, module.config.data.batch_size, settings.steps, seed))
    beta_factor, lr_fault = course(settings.beta_factor, settings.steps), course(settings.lr_fault, settings.steps)
    for step in range(settings.steps):
        batch = data[next(batches)]
        if settings.nan_at and step == settings.nan_at:
            batch = replace(batch, value=torch.full_like(batch.value, torch.nan))
        module.trained_steps = step
        module.beta = None
        module.beta = module.beta * float(beta_factor[step])
        lr = optimizer.param_groups[0]["lr"] * float(lr_fault[step])
        for group in optimizer.param_groups:
            group["lr"] = lr
        out = module.training_step(batch, step)
        optimizer.zero_grad()
        out["loss"].backward()
        owned = [p for p in module.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(owned, module.config.optim.gradient_clip_val)
        optimizer.step()
        schedule.step()
        parts = dict(zip(module.scalars, out["parts"].tolist(), strict=True))
        yield {name: parts[name] for name in ("loss", "recon", "kl")} | {
            "grad_norm": float(norm),
            "beta": module.beta,
            "lr": lr,
        }


def true_figures(full: Sequence[Batch], module: SeqSetVAEModule) -> dict[str, np.ndarray]:
    """Figures on whole stays, all of them, by the names of the toy trainings."""
    with evaluating(module):
        torch.manual_seed(0)
        seen = DecodedPart.joined([decoded_part(module, batch) for batch in full])
    sets, levels = seen.sets, module.config.model.levels
    latents = Latents.of(sets.mu, sets.logvar, Gaussian(sets.prior_mu, sets.prior_logvar), patient=sets.row)
    moments = latents.moments
    between, within = (float(part.mean()) for part in latents.between_and_within)
    kept = modelled(module.net)[seen.variable]
    value, variable = seen.value[kept], seen.variable[kept]
    count = torch.bincount(variable)
    mean = torch.bincount(variable, value) / count
    error = (value - seen.mean[kept]).square().sum() / (value - mean[variable]).square().sum()
    found = {
        "active_units": moments.active.sum(),
        "mi_gauss": moments.mi_gauss.sum(),
        "kl": moments.mean_kl.sum(),
        "recon": seen.recon.mean(),
        "reliance": seen.error_swapped.mean() / seen.error.mean() - 1,
        "explained": 1 - error,
        "posterior_variance": moments.mean_variance.mean(),
        "within": within / (within + between),
        "var_mu": moments.var_mu,
    }
    if levels > 1:
        found |= {f"mi_level_{level}": part.sum() for level, part in enumerate(moments.mi_gauss.chunk(levels), start=1)}
    return {name: np.asarray(value, float) for name, value in found.items()}
