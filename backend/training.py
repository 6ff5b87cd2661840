"""A training from its configuration to its exit status: data, module and recorder put together, then Lightning's loop."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import lightning as L
import torch

from backend.batches import StayDataset, fixed_batches, loader
from backend.build import accelerator_of, build_module, build_trainer, device_name, load_weights, precision_of
from backend.callbacks import Patience, StepLog, StepSeed
from backend.checkpoints import CheckpointWriter
from backend.console import tee_console
from backend.datasource import open_data
from backend.evaluation import evaluate_split
from backend.lit import SeqSetVAEModule
from backend.monitor import PRESETS, PosteriorMetricsMonitor
from backend.on_collapse import OnCollapse
from backend.opening import Outcome, open_recorder
from backend.plan import Plan, validation_rows
from backend.probe import StayProbe
from backend.progress import Progress
from backend.ranks import Companions, Rank, device_count_name, join, threads_of, use_threads
from backend.recorder import RunRecorder
from backend.remedies import check_remedies, remedy
from backend.resume import Resume
from backend.saving import Saving
from backend.stopping import stop_signals
from backend.token_batches import stream, world_of
from backend.validation import Part
from shared.cadence import evaluated_every
from shared.collapse import COLLAPSES, Verdict
from shared.config import TrainConfig
from shared.errors import InputError
from shared.schedule import BetaSchedule
from shared.schema import RunState

EXIT = {RunState.FINISHED: 0, RunState.FAILED: 1, RunState.INTERRUPTED: 130}
EXIT_COLLAPSED = 3
"""Stopped by a collapse (`--on_collapse stop`)."""


@dataclass(frozen=True)
class Job:
    """What one training process works with."""

    config: TrainConfig
    accelerator: str
    train_set: StayDataset
    valid_set: StayDataset
    plan: Plan
    module: SeqSetVAEModule
    recorder: RunRecorder
    resume: Resume | None
    rank: Rank = Rank()


def train(config: TrainConfig, resume: Resume | None = None) -> int:
    """Train as configured, or go on with a run; returns the exit status.

    Raises:
        InputError: before anything is written, when data, device or options do not fit.
    """
    quiet_lightning()
    if config.trainer.early_stopping_patience and config.trainer.stage == "pretrain":
        raise InputError("trainer.early_stopping_patience: pretraining has no outcome, so no AUROC to stop on; leave it out")
    check_remedies(config)
    accelerator = accelerator_of(config)
    check_devices(config, accelerator)
    precision = precision_of(config, accelerator)
    rank = join(config, accelerator)
    use_threads(threads_of(config, accelerator), rank)
    data = rank.after_first(partial(open_data, config))
    if resume is not None:
        resume.check(config, data.info.fingerprint)
    train_set, valid_set = (StayDataset(data, split, config.data) for split in ("train", "valid"))
    plan = Plan.of(config, train_set, accelerator, resume.position if resume else None)
    if resume is not None and plan.nothing_left and resume.info.state is RunState.FINISHED:
        print(f"{resume.layout.root} is finished at step {plan.start_step:,}; raise --max_epochs or --max_steps to go on")
        return 0
    check_finishing(config, plan)
    module = build_module(config, data, plan.total_steps)
    fresh = load_weights(module, Path(config.trainer.init_from)) if config.trainer.init_from and resume is None else []
    recorder = open_for(
        rank, partial(open_recorder, config, data, plan, resume, device_count_name(device_name(accelerator), rank))
    )
    recorder.info.precision = precision
    recorder.info.parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
    job = Job(config, accelerator, train_set, valid_set, plan, module, recorder, resume, rank)
    with tee_console(recorder.layout.console) if recorder.writes else silenced():
        announce(job, fresh)
        recorder.begin(plan.start_step)
        recorder.beat.epoch = plan.epoch_at(plan.start_step)
        with Outcome(recorder) as outcome:
            fit(job)
    return EXIT_COLLAPSED if outcome.collapsed else EXIT[outcome.state]


def open_for(rank: Rank, opened: Callable[[], RunRecorder]) -> RunRecorder:
    """The recorder of a run that the first process opens and the others join."""
    if rank.first:
        recorder = opened()
        rank.agree(recorder.layout)
        return recorder
    rank.agree(None)
    return opened()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """What all processes would say, only the first says; errors are heard from each."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def check_devices(config: TrainConfig, accelerator: str) -> None:
    """Refuse more GPUs than there are.

    Raises:
        InputError: names the count.
    """
    there = torch.cuda.device_count()
    if accelerator == "gpu" and config.trainer.devices > there:
        raise InputError(f"trainer.devices: {config.trainer.devices} asked for, and this machine has {there} GPU(s)")


def check_finishing(config: TrainConfig, plan: Plan) -> None:
    """Refuse to make the final scores of a run, all that is left of it, from shards: Lightning has taken those off the GPUs by then.

    Raises:
        InputError: names the way that works.
    """
    if plan.nothing_left and config.trainer.strategy == "fsdp" and world_of(config) > 1:
        raise InputError(
            f"trainer.strategy: 'fsdp', and nothing is left of this run at step {plan.start_step:,} but its final scores; resume it "
            "with --devices 1 --num_nodes 1, or raise --max_epochs or --max_steps to train on"
        )


def announce(job: Job, fresh: list[str]) -> None:
    """What is about to happen; `fresh` names the weights that --init_from did not bring."""
    info, resume = job.recorder.info, job.resume
    if not job.recorder.writes:
        return
    doing = f"resuming from step {job.plan.start_step:,}:" if resume else "training"
    print(f"{doing} {job.recorder.layout.root} on {info.device}, {info.parameters or 0:,} parameters", flush=True)
    plan = job.plan
    print(
        f"{len(job.train_set):,} stays in {plan.batches_per_epoch:,} batches an epoch; {plan.total_steps:,} steps in all, "
        f"a validation every {plan.validate_every // plan.accumulation:,}"
    )
    schedule = BetaSchedule.of(info.config)
    if (
        schedule is not None
        and not schedule.cycle
        and schedule.risen_at > plan.total_steps
        and job.config.trainer.stage != "finetune"
    ):
        print(
            f"beta rises to {schedule.at(plan.total_steps):.3g} of {schedule.maximum:.3g} in this run, for its warm-up takes "
            f"{schedule.warmup:,} steps (--beta_warmup_steps)"
        )
    if fresh:
        print(f"--init_from: {len(fresh)} tensors start fresh: {', '.join(fresh[:5])}{' ...' if len(fresh) > 5 else ''}")
    if resume is None or resume.checkpoint is None:
        return
    if resume.position.batch_events != job.plan.batch_events:
        was, now_of = (
            f"{n:,} events" if n else "a number of stays" for n in (resume.position.batch_events, job.plan.batch_events)
        )
        print(f"batches of {was} are now of {now_of}; goes on at the same share of the epoch")
    elif job.plan.batch_events is None and resume.position.batch_size != job.plan.batch_size:
        print(
            f"batch size changed from {resume.position.batch_size} to {job.plan.batch_size} stays; goes on at the next whole batch"
        )


def fit(job: Job) -> None:
    """Train to the end of the stream of batches, one pass of Lightning's loop, however many epochs it holds."""
    config, plan, resume = job.config, job.plan, job.resume
    if resume is not None:
        source = resume.path.name if resume.path else "the start: there was no checkpoint yet"
        job.recorder.event("resume", plan.start_step, f"resumed from {source}")
    recorder = job.recorder
    with (
        stop_signals() as signals,
        Companions(job.rank, recorder.layout, lambda failed: recorder.abandon(str(failed))) as others,
    ):
        writer = CheckpointWriter(job.recorder, plan.epoch_at)
        whole = partial(evaluate_split, dataset=job.valid_set, batch_size=plan.eval_batch_size, rank=job.rank)
        acting = callbacks(job)
        monitor = next((c for c in acting if isinstance(c, PosteriorMetricsMonitor)), None)
        saving = Saving(
            writer, plan, config, signals, whole, collapsing=partial(in_sight, monitor),
            on_collapse=next((c for c in acting if isinstance(c, OnCollapse)), None),
        )  # fmt: skip
        trainer = build_trainer(
            config, job.accelerator, [*acting, saving],
            max_epochs=1, max_steps=plan.total_steps, accumulate_grad_batches=plan.accumulation,
            val_check_interval=plan.validate_every, gradient_clip_val=config.optim.gradient_clip_val or None,
        )  # fmt: skip
        others.trainer = trainer
        trainer.fit(job.module, *loaders(job), ckpt_path=resume.path if resume else None, weights_only=True)
        if not saving.finished:
            saving.finish(trainer, job.module)
        if monitor is not None and monitor.verdicts and recorder.writes:  # none where only the final scores were left to make
            say_verdict(monitor.verdicts[0], recorder.layout.root)


def say_verdict(verdict: Verdict, run: Path) -> None:
    """The last word on the posterior, after scores that say nothing of it."""
    since = f" since step {verdict.began:,}" if verdict.began is not None else ""
    print(f"posterior: {verdict.severity.upper()}, {verdict.title}{since}; python -m backend diagnose {run}", flush=True)


def loaders(job: Job) -> tuple[torch.utils.data.DataLoader, torch.utils.data.DataLoader]:
    """The rest of the stream of training batches, and this process's share of the fixed part of the validation split."""
    config, plan = job.config, job.plan
    train_set, sampler = stream(job.train_set, config, plan.epochs, job.rank.number)
    sampler.first_batch = plan.start_batch
    batches = fixed_batches(validation_rows(job.valid_set, config), plan.eval_batch_size)
    part = job.module.part = Part(job.rank.number, job.rank.world, len(batches))
    return (
        loader(train_set, sampler, plan.workers, plan.pin_memory),
        loader(job.valid_set, part.of(batches), 0, plan.pin_memory),
    )


def callbacks(job: Job) -> list[L.Callback]:
    """In the order in which they act at the end of a step: monitor, remedy, log line, progress, early stopping."""
    config, recorder, options = job.config, job.recorder, job.config.monitor
    found: list[L.Callback] = [StepSeed(config.trainer.seed)]
    if not options.disable_metrics_monitoring and config.trainer.stage != "finetune":
        monitor = posterior_monitor(job)
        found.append(monitor)
        if options.remedy is not None:
            found.append(remedy(options.remedy, monitor, target=options.kl_target))
        if options.on_collapse != "warn":
            found.append(OnCollapse(monitor, options.on_collapse, target=options.kl_target, settle_later=True))
    found.append(StepLog(recorder, job.plan.batches_per_epoch))
    if recorder.writes:
        found.append(Progress(recorder))
    patience = config.trainer.early_stopping_patience
    return [*found, Patience(patience)] if patience else found


def in_sight(monitor: PosteriorMetricsMonitor | None) -> bool:
    """Whether a collapse is watched, warned of or alarmed."""
    return monitor is not None and any(verdict.kind in COLLAPSES for verdict in monitor.verdicts)


def posterior_monitor(job: Job) -> PosteriorMetricsMonitor:
    """The monitor with the preset that the options name."""
    config, options = job.config, job.config.monitor
    _, plot, _ = PRESETS["fast" if options.fast_detection else "standard"]
    monitor = PosteriorMetricsMonitor(
        evaluated_every(options.model_dump(), job.plan.total_steps),
        options.plot_frequency or plot,
        options.window_size,
        config.output.log_dir,
        config.output.verbose,
        recorder=job.recorder,
        probe=StayProbe(job.valid_set, options.probe_patients, seed=config.trainer.seed),
        time_budget=options.probe_time_budget,
    )
    monitor.cadence = replace(monitor.cadence, chosen=bool(options.update_frequency or options.fast_detection))
    return monitor


def quiet_lightning() -> None:
    """Leave out what Lightning says of things this trainer does its own way."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (
        "You're resuming from a checkpoint that ended before",
        ".*does not have many workers",
        ".*Checkpoint directory.*exists",
        ".*No positive samples", ".*No negative samples",
        ".*Trying to infer the `batch_size`",
        "Found .* module.* in eval mode at the start of training",
        ".*lr_scheduler.step.*before.*optimizer.step",
        "`isinstance.treespec, LeafSpec.` is deprecated",
        "FSDP2-wrapped module .* returned a view",
    ):  # fmt: skip
        warnings.filterwarnings("ignore", text)
