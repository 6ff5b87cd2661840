"""The first steps of a run that is not kept: what memory, time and disk the whole will take, measured."""

import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from backend.batches import StayDataset, fixed_batches, loader
from backend.build import build_module, build_trainer
from backend.plan import Plan, validation_rows
from backend.probe import evaluating
from backend.progress import Progress
from backend.recorder import RunRecorder
from backend.store import PreparedDataset
from backend.token_batches import events_of, stream
from backend.training import Job, callbacks
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import SNAPSHOT_KINDS, RunLayout
from shared.schema import RunInfo, RunState

MOST_STEPS = 24
MOST_SECONDS = 15.0
EVALUATED_BATCHES = 2
SELDOM = 1_000_000
NOT_REHEARSED: dict[str, Any] = {
    "devices": 1, "compile_model": False, "log_dir": None, "verbose": False, "run_name": None, "on_collapse": "warn",
    "remedy": None, "update_frequency": SELDOM, "plot_frequency": SELDOM,
}  # fmt: skip
"""What changes nothing of a step's work, or takes minutes by itself. The one probe comes after the last step."""


@dataclass(frozen=True)
class Measured:
    """What the rehearsal found."""

    parameters: int
    steps: int
    step_s: float
    """Seconds of an optimizer step, loading included: mean without the first, which is slower."""
    largest_events: int
    largest_sets: int
    """Of the largest batch there can be: it was the first step."""
    memory_bytes: int
    """Peak with the largest batch: of the process, or of the GPU."""
    validation_stay_s: float
    probe_s: float
    """0 where nothing is probed."""
    checkpoint_bytes: int
    line_bytes: int
    """A line of the step log."""
    evaluation_bytes: int
    """A line of a probe evaluation."""
    snapshot_bytes: int
    """The three snapshot files of one evaluation."""


def rehearse(config: TrainConfig, data: PreparedDataset, accelerator: str) -> Measured:
    """Train for some seconds in a temporary folder, beginning with the largest batch.

    Raises:
        InputError: the largest batch does not fit into memory.
    """
    config = build_config(NOT_REHEARSED, base=config)
    train_set, valid_set = (StayDataset(data, split, config.data) for split in ("train", "valid"))
    module = build_module(config, data, MOST_STEPS)
    with temporary_run(config) as recorder:
        job = Job(config, accelerator, train_set, valid_set, Plan.of(config, train_set, accelerator), module, recorder, None)
        batches = first_batches(train_set, job.plan, config)
        clock = Clock()
        try:
            trainer = _fit(job, batches, clock)
        except torch.OutOfMemoryError as error:
            option = "data.batch_size" if config.data.batch_events is None else "data.batch_events"
            raise InputError(
                f"the largest {len(batches[0])} stays of the training split do not fit into memory ({str(error).splitlines()[0]}); "
                f"lower {option} and raise optim.gradient_accumulation_steps, or lower data.max_sequence_length"
            ) from error
        stay_s = _validation_seconds(job)
        return _read(job, trainer, clock, batches[0], stay_s)


@contextmanager
def temporary_run(config: TrainConfig) -> Iterator[RunRecorder]:
    """A recorder into a folder that is gone afterwards, on the disk that the runs will be on where that can be written."""
    base = Path(config.output.output_dir)
    with tempfile.TemporaryDirectory(prefix="preflight-", dir=base if base.is_dir() else None) as folder:
        info = RunInfo(name="preflight", config=config.model_dump(mode="json"), max_steps=MOST_STEPS)
        recorder = RunRecorder(RunLayout(Path(folder)), info)
        recorder.layout.checkpoints.mkdir()
        recorder.begin()
        try:
            yield recorder
        finally:
            if recorder.info.state is RunState.RUNNING:
                recorder.end(RunState.INTERRUPTED)


def first_batches(train_set: StayDataset, plan: Plan, config: TrainConfig) -> list[list[int]]:
    """A step of the stays with the most events, then what training would begin with."""
    budget = config.data.batch_events
    events = events_of(train_set)
    order = np.argsort(-events, kind="stable")
    size = config.data.batch_size if budget is None else max(int(np.searchsorted(np.cumsum(events[order]), budget, "right")), 1)
    largest = train_set.rows[order[:size]].tolist()
    sampler = iter(stream(train_set, config, 1 + MOST_STEPS * plan.accumulation)[1])
    rest = [next(sampler) for _ in range((MOST_STEPS - 1) * plan.accumulation)]
    return [largest] * plan.accumulation + rest


class Clock(L.Callback):
    """Stops after some seconds; measures steps from the end of the first one."""

    def __init__(self) -> None:
        self.steps = 0
        self.first_s = self.rest_s = 0.0
        self._began = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock starts."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Count steps, not batches; a GPU has to be done with what it was given."""
        if trainer.global_step == self.steps:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.steps = trainer.global_step
        since = time.perf_counter() - self._began
        if self.steps == 1:
            self.first_s = since
        self.rest_s = since - self.first_s
        trainer.should_stop = trainer.should_stop or (since > MOST_SECONDS and self.steps > 1)

    @property
    def step_s(self) -> float:
        """Mean seconds of a step."""
        return self.rest_s / (self.steps - 1) if self.steps > 1 else self.first_s


def _fit(job: Job, batches: list[list[int]], clock: Clock) -> L.Trainer:
    if job.accelerator == "gpu":
        torch.cuda.reset_peak_memory_stats()
    kept = [callback for callback in callbacks(job) if not isinstance(callback, Progress)]
    trainer = build_trainer(
        job.config, job.accelerator, [clock, *kept], max_epochs=1, max_steps=MOST_STEPS,
        accumulate_grad_batches=job.plan.accumulation, limit_val_batches=0,
        gradient_clip_val=job.config.optim.gradient_clip_val or None,
    )  # fmt: skip
    warnings.filterwarnings("ignore", "You defined a `validation_step`")
    trainer.fit(job.module, loader(job.train_set, batches, job.plan.workers, job.plan.pin_memory))
    return trainer


def _validation_seconds(job: Job) -> float:
    """Seconds that validation takes per stay."""
    module, plan = job.module, job.plan
    rows = fixed_batches(validation_rows(job.valid_set, job.config), plan.eval_batch_size)[:EVALUATED_BATCHES]
    module.to("cuda" if job.accelerator == "gpu" else "cpu")
    began = time.perf_counter()
    with evaluating(module):
        for i, batch in enumerate(rows):
            module.validation_step(job.valid_set[batch].to(module.device), i)
        module.close_validation()
    return (time.perf_counter() - began) / sum(len(batch) for batch in rows)


def _read(job: Job, trainer: L.Trainer, clock: Clock, largest: list[int], validation_stay_s: float) -> Measured:
    layout, recorder = job.recorder.layout, job.recorder
    checkpoint = layout.checkpoints / "last.ckpt"
    trainer.save_checkpoint(checkpoint)
    probes = recorder.evaluations("probe")
    snapshots = [path for kind in SNAPSHOT_KINDS for _, path in layout.snapshots(kind)]
    batch = job.train_set[largest]
    recorder.end(RunState.FINISHED)
    return Measured(
        parameters=sum(p.numel() for p in job.module.parameters() if p.requires_grad),
        steps=clock.steps,
        step_s=clock.step_s,
        largest_events=batch.events,
        largest_sets=batch.sets,
        memory_bytes=peak_memory(job.accelerator),
        validation_stay_s=validation_stay_s,
        probe_s=float(probes[-1]["probe_s"]) if probes else 0.0,
        checkpoint_bytes=checkpoint.stat().st_size,
        line_bytes=layout.metrics.stat().st_size // max(clock.steps, 1),
        evaluation_bytes=layout.evaluations.stat().st_size // max(len(probes), 1) if probes else 0,
        snapshot_bytes=sum(path.stat().st_size for path in snapshots),
    )


def peak_memory(accelerator: str) -> int:
    """Bytes: the GPU's, as its allocator holds them, or the largest this process ever was."""
    if accelerator == "gpu":
        return torch.cuda.max_memory_reserved()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_disk(config: TrainConfig) -> int:
    """Bytes free where the runs go."""
    folder = Path(config.output.output_dir).absolute()
    return shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.is_dir())).free
