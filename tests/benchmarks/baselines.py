"""Training stays per second and core beside GRU-D, mTAND, padded blocks and the plain loop, on the same stays at equal width.

    python -m tests.benchmarks baselines --data prepared/physionet2012

All take the same batches in turns, on one thread; what is counted are stays per second of CPU time of one whole step: forward,
loss, backward, clipping, AdamW. A ratio is the model's speed over ours in the same turn: above 1 it is faster than ours. Models
do different work, and the table says which. What GRU-D, mTAND and the padded version read is laid out before the clock starts.
GRU-D and mTAND are our own, plain versions (`baseline_models`); the GRU-D of pypots is measured too where it is installed.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from backend.batches import Batch
from backend.build import build_module
from backend.lit import SeqSetVAEModule
from backend.loss import outcome_loss
from backend.store import PreparedDataset
from shared.configuring import build_config
from tests import padded, reference
from tests.benchmarks.baseline_models.grid import Grid
from tests.benchmarks.baseline_models.gru_d import GRUD, Decaying
from tests.benchmarks.baseline_models.mtand import MTANDEnc, MTANDFull
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.train_throughput import batches_of, dense_stepper, naive_stepper, prepared, stepper, timed

STAYS = 128
"""The first training stays; the loop, which is slow, takes one batch of them in each turn."""
ALL = "encodes sets, reconstructs, classifies"
OUTCOME = "classifies"
PYPOTS = "the GRU-D of pypots is left out; `pip install pypots` (1.5 was tried) adds it, with 50 packages more"


@dataclass(frozen=True)
class Contender:
    """A model, one step of its training, and the batches in the form in which it reads them."""

    name: str
    does: str
    model: nn.Module
    step: Callable[[Any], None]
    batches: list[Any]
    stays: int

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def speed(self) -> float:
        """Stays per second of CPU time in one pass."""
        return self.stays / timed(self.step, self.batches, time.process_time)


def main(argv: list[str]) -> None:
    """Measure and report."""
    parser = parser_of("baselines", __doc__)
    parser.add_argument("--data", type=Path, help="prepared PhysioNet 2012")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 16])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with prepared(options.data) as data:
        for size in options.batch_sizes:
            rows += measured(contenders(data, size), size, options.repeats)
    ratios = {f"{row['model']}, batch {row['batch']}": row["ratio"] for row in rows}
    report("baselines", rows, {"ratio_to_ours": ratios, "threads": 1, "repeats": options.repeats})


def measured(models: list[Contender], size: int, repeats: int) -> list[dict[str, object]]:
    """A row for each model; the first is ours."""
    for model in models:
        model.step(model.batches[0])  # fills caches
    turns = [[model.speed() for model in models] for _ in range(repeats)]
    rows: list[dict[str, object]] = []
    for model, speeds in zip(models, zip(*turns, strict=True), strict=True):
        ratios = [speed / turn[0] for speed, turn in zip(speeds, turns, strict=True)]
        rows.append({
            "batch": size, "model": model.name, "does": model.does, "parameters": model.parameters,
            "stays/s": median(speeds), "least": min(speeds), "most": max(speeds),
            "ratio": median(ratios), "ratio least": min(ratios), "ratio most": max(ratios),
        })  # fmt: skip
    return rows


def contenders(data: PreparedDataset, size: int) -> list[Contender]:
    """Everything that is compared, over the same batches; ours is the first."""
    ours, dense, loop = (build_module(build_config({}), data, 100) for _ in range(3))
    classifying = without_decoder(data)
    batches = batches_of(data, ours, size, STAYS // size)
    count = size * len(batches)
    grids = [Grid.of(batch, len(data.info.variables)) for batch in batches]
    blocks, stays = [padded.Grid.of(batch) for batch in batches], reference.split(batches[0])
    return [
        Contender("ours", ALL, ours, stepper(ours), batches, count),
        Contender("ours, no decoder", "encodes sets, classifies", classifying, stepper(classifying), batches, count),
        *published(ours, batches, grids, count),
        Contender("ours, padded blocks", ALL, dense, dense_stepper(dense), blocks, count),
        Contender("ours, plain loop", ALL, loop, naive_stepper(loop), [stays], size),
    ]


def without_decoder(data: PreparedDataset) -> SeqSetVAEModule:
    """Ours trained on the outcome alone: as in fine-tuning, but nothing is frozen."""
    module = build_module(build_config({"stage": "finetune"}), data, 100)
    for part in (module.net.encoder, module.net.sequence):
        part.requires_grad_(True)
    return module


def published(ours: SeqSetVAEModule, batches: list[Batch], grids: list[Grid], count: int) -> list[Contender]:
    """The published models, as wide as ours."""
    variables, width, latent = grids[0].value.shape[-1], ours.config.model.width, ours.config.model.latent_dim
    decaying = [Decaying.of(grid) for grid in grids]
    gru_d, enc, full = GRUD(variables, width), MTANDEnc(variables, width), MTANDFull(variables, width, latent)

    def outcome(logit: Tensor, label: Tensor) -> Tensor:
        return outcome_loss(logit, label, ours.config.loss, ours.positive_weight)

    def whole(grid: Grid) -> Tensor:
        parts = full(grid)
        return parts.loss(outcome(parts.logit, grid.label))

    found = [
        Contender("mTAND-Full", "encodes and reconstructs a series, classifies", full, descent(ours, full, whole), grids, count),
        Contender("mTAND-Enc", OUTCOME, enc, descent(ours, enc, lambda grid: outcome(enc(grid), grid.label)), grids, count),
        Contender(
            "GRU-D", OUTCOME, gru_d, descent(ours, gru_d, lambda s: outcome(gru_d(s), s.grid.label)), decaying, count
        ),
    ]  # fmt: skip
    theirs = gru_d_of_pypots(variables, width)
    if theirs is not None:
        step = descent(ours, theirs, lambda s: outcome(theirs(s), s.grid.label))
        found.append(Contender("GRU-D (pypots)", OUTCOME, theirs, step, decaying, count))
    return found


def descent(ours: SeqSetVAEModule, model: nn.Module, loss: Callable[[Any], Tensor]) -> Callable[[Any], None]:
    """A step of training with our optimizer's settings."""
    optim = ours.config.optim
    settings: dict[str, Any] = {"lr": optim.learning_rate, "weight_decay": optim.weight_decay, "betas": (0.9, 0.98)}
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **settings)

    def step(batch: Any) -> None:
        loss(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), optim.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad()

    return step


def gru_d_of_pypots(variables: int, width: int) -> nn.Module | None:
    """The GRU-D of pypots with a linear classifier on its last state, as in its `classification.GRUD`; None where it is missing.

    It walks on through padding, as pypots itself does with series of unlike length.
    """
    try:
        from pypots.nn.modules.grud import BackboneGRUD
    except ImportError:
        print(PYPOTS, file=sys.stderr)
        return None

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = BackboneGRUD(0, variables, width), nn.Linear(width, 1)
            self.register_buffer("mean", torch.zeros(variables))

        def forward(self, stays: Decaying) -> Tensor:
            grid = stays.grid
            self.backbone.n_steps = grid.value.shape[1]
            filled = torch.where(grid.observed > 0, grid.value, stays.before)
            state = self.backbone(grid.value, grid.observed, stays.since, self.mean, filled)[1]
            return self.head(state).squeeze(-1)

    return Theirs()
