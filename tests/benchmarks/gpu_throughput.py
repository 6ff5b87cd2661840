"""Training on a GPU, loader and monitoring included: stays per second, share of the roofline, what monitoring costs, waits for the GPU.

    python -m tests.benchmarks gpu_throughput --data prepared/physionet2012

The older system's sizes, bf16, PhysioNet stays, the monitor at every step. `overhead` is 1 - time without / time with the monitor,
runs in turns; `synchronisations` are the operations per step, in the steps without a probe or a validation, at which the host waited
for the device, as torch itself reports them. With `--accelerator cpu` the script can be tried where there is no GPU; its figures are
then those of the CPU, and waits are not counted.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch

from backend import training
from backend.build import accelerator_of
from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.configuring import build_config
from tests.benchmarks.attainable import now
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.train_profile import roofline
from tests.benchmarks.train_throughput import OLDER, prepared

WARM_STEPS = 20
SYNCHRONISING = "called a synchronizing CUDA operation"


class Clock(L.Callback):
    """Seconds of the steps after the warm-up, and the waits for the device in them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds = 0.0
        self.stays = 0
        self.waits: list[str] = []
        self._began = self._paused = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin to count when the warm-up is over."""
        if batch_idx == WARM_STEPS:
            self._began = now()
            watch_waits("warn")
        if batch_idx >= WARM_STEPS:
            self.stays += batch.stays

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stand still: validations and their checkpoints are no part of a step."""
        if self._began:
            watch_waits("default")
            self._paused = now()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on."""
        if self._began:
            self._began += now() - self._paused
            watch_waits("warn")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End with the last step, before validation and final scores."""
        if batch_idx == WARM_STEPS + self.steps - 1:
            watch_waits("default")
            self.seconds, self._began = now() - self._began, 0.0


def watch_waits(mode: str) -> None:
    """Let torch say when the host waits for a GPU; nothing without one."""
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def heard(clock: Clock) -> Iterator[None]:
    """Warnings of waits go to the clock, with the line that caused them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", SYNCHRONISING)
        shown = warnings.showwarning

        def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
            if SYNCHRONISING in str(message):
                clock.waits.append(f"{filename}:{lineno}")
            else:
                shown(message, category, filename, lineno, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def trained(config: TrainConfig, steps: int) -> Clock:
    """One training, timed."""
    clock, plain = Clock(steps), training.build_trainer

    def build(config: TrainConfig, accelerator: str, callbacks: list[L.Callback], **options: Any) -> L.Trainer:
        return plain(config, accelerator, [*callbacks, clock], **options)

    training.build_trainer = build
    try:
        with heard(clock):
            if training.train(config) != 0:
                raise SystemExit("training failed")
    finally:
        training.build_trainer = plain
    return clock


def configured(data: PreparedDataset, folder: str, options: argparse.Namespace, *, monitor: bool) -> TrainConfig:
    """The older sizes; no probe and no validation inside the steps that count."""
    return build_config({
        **OLDER, "data_dir": str(data.path), "output_dir": folder, "batch_size": options.batch_size, "accelerator": options.accelerator,
        "max_steps": options.steps + WARM_STEPS, "num_workers": options.workers, "gradient_accumulation_steps": 1,
        "max_epochs": 1000, "val_check_interval": 1.0, "update_frequency": 10**9, "plot_frequency": 10**9, "limit_val_batches": 0.05,
        "checkpoint_every_n_steps": 10**9, "disable_metrics_monitoring": not monitor, "compile_model": options.compile_model,
    })  # fmt: skip


def main(argv: list[str]) -> None:
    """Measure and report."""
    parser = parser_of("gpu_throughput", __doc__)
    parser.add_argument("--data", type=Path, help="prepared PhysioNet 2012")
    parser.add_argument("--accelerator", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3, help="trainings with and without the monitor")
    parser.add_argument("--workers", type=int, default=8, help="loader processes")
    parser.add_argument("--compile-model", action="store_true")
    options = parser.parse_args(argv)
    if options.accelerator == "gpu" and not torch.cuda.is_available():
        print("gpu_throughput: torch sees no CUDA device; --accelerator cpu tries the script out", file=sys.stderr)
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as folder, prepared(options.data) as data:
        on, off = (configured(data, folder, options, monitor=monitor) for monitor in (True, False))
        pairs = [(trained(on, options.steps), trained(off, options.steps)) for _ in range(options.pairs)]
        operations, figures = roofline(on, data)
    rate = [watched.stays / watched.seconds for watched, _ in pairs]
    waits = [place for watched, _ in pairs for place in watched.waits]
    rows: list[dict[str, object]] = [
        {"pair": number, "stays/s": watched.stays / watched.seconds, "stays/s without monitor": alone.stays / alone.seconds}
        for number, (watched, alone) in enumerate(pairs, start=1)
    ]
    for place in sorted(set(waits)):
        print(f"waited for the device {waits.count(place)} times: {place}")
    report("gpu_throughput", operations, {})
    report("gpu_throughput", rows, {
        "stays_per_s": median(rate), "overhead": median(1 - alone.seconds / watched.seconds for watched, alone in pairs),
        "synchronisations": len(waits) / (options.steps * options.pairs) if accelerator_of(on) == "gpu" else None, **figures,
        "batch_size": options.batch_size, "workers": options.workers, "compile_model": options.compile_model,
    })  # fmt: skip
