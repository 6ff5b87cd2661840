"""`python -m backend train --data_dir prepared/demo`: train SeqSetVAE and watch its posterior.

Everything of a run lies in one folder under --output_dir; `python -m dashboard --runs runs` shows it live.
"""

import argparse
import os
import platform
import socket
import sys
import warnings
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import lightning as L
import torch

from backend.batches import StayDataset, StaySampler, fixed_batches, loader
from backend.build import accelerator_of, build_module, build_trainer, device_name, load_weights, precision_of
from backend.callbacks import Saving, StepLog, StepSeed, StopRequested
from backend.checkpoints import CheckpointWriter
from backend.console import tee_console
from backend.datasource import open_data
from backend.evaluate import evaluate_split
from backend.lit import SeqSetVAEModule
from backend.monitor import PRESETS, PosteriorMetricsMonitor
from backend.options import add_arguments as add_config_arguments
from backend.options import given_options, resolve
from backend.plan import Plan, validation_rows
from backend.probe import StayProbe
from backend.progress import Progress
from backend.recorder import RunRecorder
from backend.resume import Resume, align, open_resume
from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.errors import InputError
from shared.layout import RunLayout
from shared.schema import RunInfo, RunState, Session, now
from shared.writer import write_record

EXIT = {RunState.FINISHED: 0, RunState.FAILED: 1, RunState.INTERRUPTED: 130}
PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "pandas", "pyarrow")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command: those of `shared.config`."""
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command: check all options, then train; returns the exit status."""
    target = given_options(args).get("resume_from_checkpoint")
    resume = open_resume(Path(target)) if target else None
    config = resolve(args, resume.config() if resume else None)
    return train(config, resume)


def train(config: TrainConfig, resume: Resume | None = None) -> int:
    """Train as configured, or go on with a run.

    Raises:
        InputError: before anything is written, when data, device or options do not fit.
    """
    quiet_lightning()
    accelerator = accelerator_of(config)
    precision = precision_of(config, accelerator)
    torch.set_num_threads(config.trainer.cpu_threads or os.cpu_count() or 1)
    data = open_data(config)
    plan = Plan.of(config, StayDataset(data, "train", config.data), accelerator)
    module = build_module(config, data, plan.total_steps)
    left_out = load_weights(module, Path(config.trainer.init_from)) if config.trainer.init_from and not resume else []
    layout, info = _open_run(config, data, resume)
    info.config = config.model_dump(mode="json")
    info.device, info.precision = device_name(accelerator), precision
    info.versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    info.parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
    info.max_steps = plan.total_steps
    start = resume.step if resume else 0
    info.sessions.append(
        Session(started_at=now(), from_step=start, pid=os.getpid(), host=socket.gethostname(), command=sys.argv)
    )
    write_record(layout.run_json, info, durable=True)
    with tee_console(layout.console):
        print(f"{'resuming' if resume else 'training'} {layout.root} on {info.device}, {info.parameters:,} parameters")
        if left_out:
            print(f"--init_from: {len(left_out)} tensors start fresh: {', '.join(left_out[:5])} ...")
        return _fit(config, data, module, RunRecorder(layout, info), plan, resume)


def _open_run(config: TrainConfig, data: PreparedDataset, resume: Resume | None) -> tuple[RunLayout, RunInfo]:
    if resume is not None:
        known = resume.info.dataset.fingerprint if resume.info.dataset else None
        if known != data.info.fingerprint:
            raise InputError(
                f"data.data_dir: {config.data.data_dir} is not the data that {resume.layout.root.name} was trained on "
                "(its fingerprint differs); point --data_dir at that, or start a new run with --init_from"
            )
        return resume.layout, resume.info
    stem = config.output.run_name or f"{data.info.name}-{config.trainer.stage}".replace(" ", "-")
    if "/" in stem or stem.startswith("."):
        raise InputError(f"output.run_name: {stem!r} must be a plain folder name")
    base = Path(config.output.output_dir)
    name = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    layout = RunLayout(base / name)
    for number in range(2, 100):
        try:
            layout.root.mkdir(parents=True)
            break
        except FileExistsError:
            layout = RunLayout(base / f"{name}-{number}")
        except OSError as error:
            raise InputError(f"output.output_dir: cannot create {layout.root}: {error.strerror}") from error
    summary = data.info.summary(Path(config.data.data_dir).absolute())
    return layout, RunInfo(name=layout.root.name, config={}, dataset=summary, parent=config.trainer.init_from)


def _fit(
    config: TrainConfig,
    data: PreparedDataset,
    module: SeqSetVAEModule,
    recorder: RunRecorder,
    plan: Plan,
    resume: Resume | None,
) -> int:
    """Train to a final state; that state is always written."""
    recorder.begin(resume.step if resume else 0)
    batches_done = round(resume.epoch * plan.batches_per_epoch) if resume else 0
    module.position = plan.position
    if resume is not None:
        recorder.event("resume", resume.step, f"resumed from {resume.path.name if resume.path else 'the start'}")
        module.align = lambda checkpoint: align(checkpoint, batches_done, config)
    train_set, valid_set = (StayDataset(data, split, config.data) for split in ("train", "valid"))
    sampler = StaySampler(
        train_set.rows, config.data.batch_size, plan.epochs, config.trainer.seed, world_size=config.trainer.devices
    )
    sampler.first_batch = batches_done
    writer = CheckpointWriter(recorder, plan.epoch_at)
    trainer = build_trainer(
        config, accelerator_of(config), _callbacks(config, recorder, plan, writer, valid_set),
        max_epochs=1, max_steps=plan.total_steps, accumulate_grad_batches=config.optim.gradient_accumulation_steps,
        val_check_interval=plan.validate_every, gradient_clip_val=config.optim.gradient_clip_val or None,
    )  # fmt: skip
    workers, pin = plan.workers, plan.pin_memory
    part = fixed_batches(validation_rows(valid_set, config), plan.eval_batch_size)
    state, error = RunState.FAILED, None
    try:
        trainer.fit(
            module, loader(train_set, sampler, workers, pin), loader(valid_set, part, 0, pin),
            ckpt_path=resume.path if resume else None, weights_only=True,
        )  # fmt: skip
        state = RunState.FINISHED
    except (StopRequested, KeyboardInterrupt) as stop:
        state = RunState.INTERRUPTED
        print(f"\nstopped at step {trainer.global_step:,} ({type(stop).__name__}); go on with\n"
              f"  python -m backend train --resume_from_checkpoint {recorder.layout.root}")  # fmt: skip
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
        recorder.event("error", trainer.global_step, error)
        raise
    finally:
        recorder.end(state, error)
    return EXIT[state]


def _callbacks(
    config: TrainConfig, recorder: RunRecorder, plan: Plan, writer: CheckpointWriter, valid_set: StayDataset
) -> list[L.Callback]:
    """In the order in which they act at the end of a step: monitor, log line, progress, checkpoint."""
    monitor = config.monitor
    callbacks: list[L.Callback] = [StepSeed(config.trainer.seed)]
    if not monitor.disable_metrics_monitoring and config.trainer.stage != "finetune":
        update, plot, _ = PRESETS["fast" if monitor.fast_detection else "standard"]
        callbacks.append(
            PosteriorMetricsMonitor(
                monitor.update_frequency or update,
                monitor.plot_frequency or plot,
                monitor.window_size,
                config.output.log_dir,
                config.output.verbose,
                recorder=recorder,
                probe=StayProbe(valid_set, monitor.probe_patients, seed=config.trainer.seed),
                time_budget=monitor.probe_time_budget,
                warmup_steps=0 if config.loss.beta_schedule == "constant" else config.loss.beta_warmup_steps,
            )
        )
    callbacks += [StepLog(recorder, plan.batches_per_epoch), Progress(recorder)]
    if config.trainer.early_stopping_patience:
        callbacks.append(plan.early_stopping(config))
    whole = partial(evaluate_split, dataset=valid_set, batch_size=plan.eval_batch_size)
    return [*callbacks, Saving(writer, config.trainer.checkpoint_every_n_steps, whole)]


def quiet_lightning() -> None:
    """Leave out what Lightning says of things this trainer does its own way."""
    import logging

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        "You're resuming from a checkpoint that ended before",
        ".*does not have many workers",
        ".*Checkpoint directory.*exists",
        ".*No positive samples", ".*No negative samples",
        ".*Trying to infer the `batch_size`",
    ):  # fmt: skip
        warnings.filterwarnings("ignore", text)
