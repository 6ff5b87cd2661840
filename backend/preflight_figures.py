"""What a run will take and leave, before it is begun: measured on some real steps, and from the spectrum of the data."""

import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

from backend.batches import StayDataset
from backend.build import accelerator_of, device_name
from backend.checkpoints import KEPT_BEST, KEPT_EARLIER
from backend.datasource import open_data
from backend.plan import Plan, validation_rows
from backend.rehearsal import Measured, free_disk, rehearse
from backend.remedies import check_remedies
from backend.snapshots import MOST_SNAPSHOTS
from backend.spectrum import covariance_spectrum
from backend.store import PreparedDataset
from backend.training import check_devices, quiet_lightning
from backend.watching import SHORT_RUN_S
from shared.cadence import evaluated_every
from shared.config import TrainConfig
from shared.forecast import Floor, Outlook, Spectrum
from shared.layout import SCHEMA_VERSION

AROUND = (0.25, 0.5, 1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Totals:
    """What the whole run takes, from what was measured."""

    steps: int
    epochs: float
    epoch_s: float
    """Training alone."""
    validation_s: float
    """Per epoch."""
    total_s: float
    """All of it: training, validations, probes, the last evaluation."""
    checkpoints: int
    snapshots: int
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    memory_there_bytes: int


@dataclass(frozen=True)
class Preflight:
    """The report."""

    data: str
    device: str
    latents: int
    beta_max: float
    floor: Floor
    spectrum: Spectrum | None
    decoder_variance: float | None
    """None: learned."""
    outlooks: list[Outlook]
    largest_beta: float | None
    no_forecast: str | None
    measured: Measured
    totals: Totals

    @property
    def chosen(self) -> Outlook | None:
        """The outlook at beta_max."""
        return next((outlook for outlook in self.outlooks if outlook.beta == self.beta_max), None)

    @property
    def concerns(self) -> list[str]:
        """What stands against the run."""
        found = []
        if self.chosen is not None and not self.chosen.units and not self.floor.nats:
            found.append(f"no unit is foreseen to live at beta {self.beta_max:.3g}: choose one below {self.largest_beta:.3g}")
        if self.totals.disk_bytes > self.totals.disk_free_bytes:
            found.append("there is not enough disk: free some, or choose another output.output_dir")
        if self.totals.memory_bytes > 0.95 * self.totals.memory_there_bytes:
            found.append(
                "memory is short: set trainer.gradient_checkpointing (a third of the activations, a quarter slower), or lower data.batch_size "
                "(or data.batch_events)"
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = asdict(self) | {"concerns": self.concerns}
        plain["outlooks"] = [asdict(o) | {"units": o.units, "nats": o.nats} for o in self.outlooks]
        return {"schema_version": SCHEMA_VERSION, **plain}


def look_ahead(config: TrainConfig, decoder_variance: float | None = None) -> Preflight:
    """Measure and forecast a run."""
    quiet_lightning()
    check_remedies(config)
    accelerator = accelerator_of(config)
    check_devices(config, accelerator)
    torch.set_num_threads(config.trainer.cpu_threads or max((os.cpu_count() or 1) - 1, 1))
    data = open_data(config)
    say(f"rehearsing the first steps on {device_name(accelerator)} ...")
    measured = rehearse(config, data, accelerator)
    say(f"{measured.steps} steps done; reading the spectrum of the data ...")
    latents = config.model.latent_dim * config.model.levels
    no_forecast = without_forecast(config)
    spectrum = covariance_spectrum(data, seed=config.trainer.seed) if no_forecast is None else None
    around = sorted({factor * config.loss.beta_max for factor in AROUND})
    return Preflight(
        data=f"{data.info.name} ({data.path})", device=device_name(accelerator), latents=latents, beta_max=config.loss.beta_max,
        floor=Floor.of(config.model_dump()), spectrum=spectrum, decoder_variance=decoder_variance,
        outlooks=[spectrum.outlook(beta, latents, decoder_variance) for beta in around] if spectrum is not None else [],
        largest_beta=spectrum.largest_beta(decoder_variance) if spectrum is not None else None,
        no_forecast=no_forecast, measured=measured, totals=totals(config, data, accelerator, measured),
    )  # fmt: skip


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def without_forecast(config: TrainConfig) -> str | None:
    """Why theory has nothing to say on a run; None where it has."""
    if config.trainer.stage == "finetune":
        return "fine-tuning trains the classifier alone: its posterior stays as it is"
    if config.model.decoder == "chamfer":
        return "the Chamfer loss is no likelihood: beta has no fixed meaning beside it; compare with --decoder likelihood"
    if config.loss.beta_max == 0:
        return "beta_max is 0: nothing holds the posterior at its prior"
    return None


def totals(config: TrainConfig, data: PreparedDataset, accelerator: str, measured: Measured) -> Totals:
    """From a step to the whole run."""
    train_set, valid_set = (StayDataset(data, split, config.data) for split in ("train", "valid"))
    plan = Plan.of(config, train_set, accelerator)
    epoch_s = measured.step_s * plan.batches_per_epoch / plan.accumulation
    part, whole = len(validation_rows(valid_set, config)), len(valid_set)
    validation_s = measured.validation_stay_s * part * plan.batches_per_epoch / plan.validate_every
    epochs = plan.epoch_at(plan.total_steps)
    working_s = epochs * epoch_s
    probes = probes_of(config, plan.total_steps, working_s, measured.probe_s)
    checkpoints = 1 + KEPT_EARLIER + KEPT_BEST + 1
    logs = plan.total_steps * measured.line_bytes + probes * measured.evaluation_bytes
    snapshots = min(probes, MOST_SNAPSHOTS)
    disk = logs + snapshots * measured.snapshot_bytes + (checkpoints + 1) * measured.checkpoint_bytes
    return Totals(
        steps=plan.total_steps, epochs=epochs, epoch_s=epoch_s, validation_s=validation_s,
        total_s=working_s + epochs * validation_s + probes * measured.probe_s + whole * measured.validation_stay_s,
        checkpoints=checkpoints, snapshots=snapshots, disk_bytes=disk, disk_free_bytes=free_disk(config), memory_bytes=measured.memory_bytes,
        memory_there_bytes=torch.cuda.mem_get_info()[1] if accelerator == "gpu" else psutil.virtual_memory().total,
    )  # fmt: skip


def probes_of(config: TrainConfig, steps: int, working_s: float, probe_s: float) -> int:
    """Evaluations of the probe set: as often as asked for, as far as their share of the time allows, and the last."""
    if probe_s == 0:
        return 0
    options = config.monitor
    allowed_s = max(options.probe_time_budget * working_s, SHORT_RUN_S)
    return min(steps // evaluated_every(options.model_dump(), steps), int(allowed_s / probe_s) + 1) + 1
