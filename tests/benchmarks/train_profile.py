"""Where a training step's time goes, and how near it comes to what the machine can do (roofline).

    python -m tests.benchmarks train_profile --data prepared/physionet2012 --workers 2
    python -m tests.benchmarks train_profile --older-sizes

A real training runs (`backend.training`) under Lightning's profiler: loading, host to device, forward by block, backward, optimizer,
monitoring. Then the operations of one step are counted: floating-point operations, and bytes that each operation reads and writes
(unfused, views left out). What an operation could take at best is the larger of operations over peak and bytes over bandwidth
(Williams et al. 2009), both measured here; the sum over operations over the time of the step is `roofline_share`.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from backend import training
from backend.build import accelerator_of, build_module
from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.configuring import build_config
from tests.benchmarks.attainable import attainable, best, now
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.train_throughput import OLDER, batches_of, prepared, stepper

WARM_STEPS = 5
BLOCKS = (
    "encoder.embed",
    "encoder.blocks",
    "encoder.pools",
    "encoder.posteriors",
    "encoder.priors",
    "sequence",
    "decoder",
    "classifier",
)
FORWARD, BACKWARD, STEP = "Strategy.training_step", "Strategy.backward", "Module.optimizer_step"
PARTS = {
    "waiting for the loader": ("train_dataloader_next",),
    "host to device": ("Strategy.batch_to_device",),
    "monitoring": ("[Callback]PosteriorMetricsMonitor.",),
    "log and heartbeat": ("[Callback]StepLog.", "[Callback]Progress.", "[Callback]Saving."),
}
"""Actions of Lightning's profiler by a part of their name."""


class Blocks(L.Callback):
    """Times the forward pass of each block, and knows when the steps after the warm-up began and ended."""

    def __init__(self, profiler: SimpleProfiler) -> None:
        self.profiler = profiler
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps, self.began, self.ended = 0, 0.0, 0.0
        self.actions: dict[str, float] = {}
        """Seconds of Lightning's actions up to the end of the last step."""
        self._open: dict[int, float] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put a clock around every block."""
        net: nn.Module = pl_module.net  # type: ignore[assignment]
        for label in BLOCKS:
            block = net.get_submodule(label)
            for part in block if isinstance(block, nn.ModuleList) else [block]:
                part.register_forward_pre_hook(lambda part, _given: self._open.__setitem__(id(part), now()))
                part.register_forward_hook(lambda part, _given, _made, label=label: self._close(part, label))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Forget the first steps: they fill caches."""
        if batch_idx == WARM_STEPS:
            self.profiler.recorded_durations.clear()
            self.seconds.clear()
            self.began = now()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; what comes after the last one is not part of it."""
        self.steps, self.ended = batch_idx + 1 - WARM_STEPS, now()
        self.actions = {action: sum(spent) for action, spent in self.profiler.recorded_durations.items()}

    def _close(self, part: nn.Module, label: str) -> None:
        if part.training:
            self.seconds[label] += now() - self._open.pop(id(part))


class Counter(TorchDispatchMode):
    """Counts what operations of PyTorch compute and move."""

    def __init__(self, flops_per_s: float, bytes_per_s: float) -> None:
        super().__init__()
        self.peak = flops_per_s, bytes_per_s
        self.flops = self.bytes = 0
        self.least_s = 0.0
        self.by_kind: dict[str, float] = defaultdict(float)
        """Least seconds by name of the operation."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        made = func(*args, **(kwargs or {}))
        if any(result.alias_info is not None and not result.alias_info.is_write for result in func._schema.returns):
            return made  # a view
        moved = sum(x.numel() * x.element_size() for x in tree_leaves((args, kwargs, made)) if isinstance(x, Tensor))
        count = flop_registry.get(func._overloadpacket)
        flops = count(*args, **(kwargs or {}), out_val=made) if count else 0
        least = max(flops / self.peak[0], moved / self.peak[1])
        self.flops, self.bytes, self.least_s = self.flops + flops, self.bytes + moved, self.least_s + least
        self.by_kind[str(func._overloadpacket).removeprefix("aten.")] += least
        return made


@contextmanager
def profiled() -> Iterator[list[Blocks]]:
    """Trainers made inside get Lightning's profiler and our clocks."""
    found: list[Blocks] = []
    plain = training.build_trainer

    def build(config: TrainConfig, accelerator: str, callbacks: list[L.Callback], **options: Any) -> L.Trainer:
        profiler = SimpleProfiler()
        found.append(Blocks(profiler))
        return plain(config, accelerator, [*callbacks, found[-1]], profiler=profiler, **options)

    training.build_trainer = build
    try:
        yield found
    finally:
        training.build_trainer = plain


def profile(config: TrainConfig) -> tuple[list[dict[str, object]], float, float]:
    """Rows of where the time went, seconds per step, and the share of it that the step waited for its batch."""
    with profiled() as found:
        training.train(config)
    blocks = found[0]
    whole = blocks.ended - blocks.began

    def seconds(names: tuple[str, ...]) -> float:
        return sum(spent for action, spent in blocks.actions.items() if any(name in action for name in names))

    spent = {f"forward: {name}": total for name, total in blocks.seconds.items()}
    spent["forward: loss and the rest"] = seconds((FORWARD,)) - sum(spent.values())
    spent["backward"] = seconds((BACKWARD,))
    spent["optimizer and clipping"] = seconds((STEP,)) - seconds((FORWARD, BACKWARD))  # Lightning runs both inside its step
    spent |= {part: seconds(names) for part, names in PARTS.items()}
    spent["Lightning's loop and the rest"] = whole - sum(spent.values())
    rows: list[dict[str, object]] = [
        {"part": part, "ms per step": 1000 * total / blocks.steps, "share": total / whole}
        for part, total in sorted(spent.items(), key=lambda item: -item[1])
    ]
    return rows, whole / blocks.steps, spent["waiting for the loader"] / whole


def roofline(config: TrainConfig, data: PreparedDataset) -> tuple[list[dict[str, object]], dict[str, float]]:
    """Operations of one step, and how the time it takes compares with the least it could."""
    device = torch.device("cuda" if accelerator_of(config) == "gpu" else "cpu")
    half = device.type == "cuda"
    peak = attainable(device, torch.bfloat16 if half else torch.float32)
    module = build_module(config, data, 100).to(device)
    batches = [batch.to(device) for batch in batches_of(data, module, config.data.batch_size, 4)]
    step = stepper(module)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        step(batches[0])
        taken = best(lambda: [step(batch) for batch in batches], repeats=5) / len(batches)
        with Counter(*peak) as counter:
            for batch in batches:
                step(batch)
    each = 1 / len(batches)
    rows: list[dict[str, object]] = [
        {"operation": kind, "least ms per step": 1000 * least * each, "share of the least": least / counter.least_s}
        for kind, least in sorted(counter.by_kind.items(), key=lambda item: -item[1])[:12]
    ]
    return rows, {
        "gflop_per_step": counter.flops * each / 1e9, "gb_per_step": counter.bytes * each / 1e9, "peak_gflop_per_s": peak[0] / 1e9,
        "peak_gb_per_s": peak[1] / 1e9, "step_alone_s": taken, "roofline_share": counter.least_s * each / taken,
    }  # fmt: skip


def main(argv: list[str]) -> None:
    """Measure and report."""
    parser = parser_of("train_profile", __doc__)
    parser.add_argument("--data", type=Path, help="prepared PhysioNet 2012")
    parser.add_argument("--older-sizes", action="store_true", help="the older system's sizes")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, prepared(options.data) as data:
        config = build_config({
            **(OLDER if options.older_sizes else {}), "data_dir": str(data.path), "output_dir": folder, "batch_size": options.batch_size,
            "max_steps": options.steps + WARM_STEPS, "num_workers": options.workers, "gradient_accumulation_steps": 1,
            "val_check_interval": 1.0,
        })  # fmt: skip
        rows, step_s, wait = profile(config)
        operations, figures = roofline(config, data)
    report("train_profile", rows, {})
    report("train_profile", operations, {
        "loader_wait": wait, "step_s": step_s, **figures, "older_sizes": options.older_sizes, "batch_size": options.batch_size,
        "workers": options.workers, "threads": torch.get_num_threads(),
    })  # fmt: skip
