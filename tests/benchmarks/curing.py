"""One training that collapses, with a remedy or without: what `tests.benchmarks.remedies` makes its table of."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from backend.batches import StayDataset
from backend.build import module_from_checkpoint
from backend.datasource import open_data
from backend.preparing import build
from backend.probe import StayProbe
from backend.simulate import Simulation
from backend.training import quiet_lightning
from backend.training import train as train_stays
from shared.configuring import build_config
from shared.layout import RunLayout, iter_runs
from shared.reader import each_row
from shared.remedies import REMEDIES
from tests.benchmarks.proving_ground.faults import FAULTS
from tests.benchmarks.proving_ground.scenarios import Scenario
from tests.benchmarks.proving_ground.settings import Course, Settings
from tests.benchmarks.ward import Ward

HEALTHY, GONE, SEQSET = "healthy", "nothing", "seqset"
STEPS, EVERY = 1000, 20
NO_FAULT: Course = ((0, 1.0),)
STAYS = {
    "width": 32, "latent_dim": 8, "levels": 1, "transformer_layers": 1, "transformer_heads": 2, "set_heads": 1, "batch_size": 16,
    "gradient_accumulation_steps": 1, "max_epochs": 1000, "max_steps": 300, "val_check_interval": 1.0, "limit_val_batches": 0.1,
    "checkpoint_every_n_steps": 200, "learning_rate": 3e-3, "lr_warmup_steps": 10, "lr_schedule": "constant", "free_bits": 0.0,
    "beta_warmup_steps": 40, "update_frequency": 10, "plot_frequency": 10**6, "probe_patients": 64, "probe_time_budget": 1.0,
    "cpu_threads": 1, "accelerator": "cpu", "dropout": 0.0,
}  # fmt: skip
"""SeqSetVAE, small."""
BETA, TOO_HIGH = 0.1, 10.0


@dataclass(frozen=True)
class Case:
    """One training."""

    scenario: str
    remedy: str
    """or `HEALTHY`, or `GONE`"""
    seed: int


@dataclass(frozen=True)
class Ending:
    """What it came to."""

    case: Case
    figures: dict[str, float]
    """active_units, mi_gauss, mi_gauss_level_k, decoder_reliance and elbo on the full data"""
    alarm: int | None
    rows: tuple[dict[str, float], ...]
    """The same by step, of the probe set."""
    extra_steps: int


def train(scenario: str, ways: Sequence[str], seeds: int) -> list[Ending]:
    """All trainings of a scenario."""
    torch.set_num_threads(1)
    quiet_lightning()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    cases = [Case(scenario, way, seed) for seed in range(seeds) for way in ways]
    if scenario != SEQSET:
        return train_toys(cases)
    found = []
    for case in cases:
        if case.remedy != "learned_variance":  # which SeqSetVAE's is anyway
            with tempfile.TemporaryDirectory() as folder:
                found.append(train_seqset(case, Path(folder)))
    return found


def train_toys(cases: Sequence[Case]) -> list[Ending]:
    """Toy VAEs of the proving ground, all of one scenario, side by side where their networks are alike."""
    scenario = next(s for s in FAULTS if s.name == cases[0].scenario)
    settings = {c: lengthened(healthy(scenario, c.seed) if c.remedy == HEALTHY else scenario.settings(c.seed)) for c in cases}
    endings: list[Ending] = []
    for network in dict.fromkeys(own.network for own in settings.values()):
        endings += train_alike([(case, own) for case, own in settings.items() if own.network == network])
    return endings


def train_alike(group: Sequence[tuple[Case, Settings]]) -> list[Ending]:
    """Trainings of one network."""
    cases = [case for case, _ in group]
    actions = [f"remedy:{case.remedy}" if case.remedy in REMEDIES else "warn" for case in cases]
    ward = Ward([own for _, own in group], [case.seed for case in cases], actions)
    ward.treat(EVERY)
    found = []
    for r, (case, patient) in enumerate(zip(cases, ward.patients, strict=True)):
        truth = ward.figures(r)
        renamed = {name.replace("mi_level", "mi_gauss_level"): value for name, value in truth.items()}
        final = kept(renamed | {"decoder_reliance": truth["reliance"]})
        rows = tuple(kept(row) | {"step": row["step"]} for row in patient.rows)
        found.append(Ending(case, final, patient.alarm, rows, patient.extra))
    return found


def train_seqset(case: Case, folder: Path) -> Ending:
    """SeqSetVAE on simulated stays, by the trainer that `python -m backend train` calls."""
    build(Simulation(200, case.seed), folder / "stays", seed=case.seed, valid=0.3, test=0.05)
    action = f"remedy:{case.remedy}" if case.remedy in REMEDIES else "warn"
    beta = BETA if case.remedy == HEALTHY else TOO_HIGH
    options = {"data_dir": str(folder / "stays"), "output_dir": str(folder / "runs"), "seed": case.seed, "on_collapse": action}
    config = build_config({**STAYS, **options, "beta_max": beta})
    with contextlib.redirect_stdout(io.StringIO()):
        assert train_stays(config) == 0
    (run,) = iter_runs(folder / "runs")
    (final,) = run.checkpoints.glob("final_*.ckpt")
    data = open_data(config)
    row = StayProbe(StayDataset(data, "valid", config.data), 10**6)(module_from_checkpoint(final, data)).values
    told = [e["data"] for e in each_row(run.events) if e["kind"] == "remedy"]
    extra = next((int(e["extra_steps"]) for e in told if "extra_steps" in e), 0)
    return Ending(case, kept(row), first_alarm(run), probed(run), extra)


def first_alarm(run: RunLayout) -> int | None:
    """Step of the first alarm of a run."""
    return next((e["step"] for e in each_row(run.events) if e["kind"] == "verdict" and e["data"]["severity"] == "alarm"), None)


def probed(run: RunLayout) -> tuple[dict[str, float], ...]:
    """Its evaluations."""
    return tuple(kept(row) | {"step": row["step"]} for row in each_row(run.evaluations) if row["kind"] == "probe")


def kept(row: dict[str, Any]) -> dict[str, float]:
    """The figures that decide, and the bound."""
    named = {name: row[name] for name in ("active_units", "mi_gauss", "decoder_reliance")}
    levels = {name: value for name, value in row.items() if name.startswith("mi_gauss_level_")}
    return {**named, **levels, "elbo": row["elbo"] if "elbo" in row else -(row["recon"] + row["kl"])}


def healthy(scenario: Scenario, seed: int) -> Settings:
    """The training of this seed without its fault."""
    settings = scenario.settings(seed)
    if scenario.cure is not None:
        return scenario.cure(settings)
    zero: Course = ((0, 0.0),)
    return replace(settings, beta_factor=NO_FAULT, dims_factor=NO_FAULT, prior_mean=zero, smoothness=zero)


def lengthened(settings: Settings) -> Settings:
    """In as many steps as a remedy needs to act; schedules and faults at the same share of them."""
    factor = STEPS / settings.steps

    def later(course: Course) -> Course:
        return tuple((round(step * factor), value) for step, value in course)

    return replace(
        settings, steps=STEPS, warmup=round(settings.warmup * factor), beta_factor=later(settings.beta_factor),
        dims_factor=later(settings.dims_factor), prior_mean=later(settings.prior_mean), smoothness=later(settings.smoothness),
    )  # fmt: skip
