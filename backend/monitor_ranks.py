"""What the monitors of several ranks do together: each step's moments are merged, and evaluations are told to all."""

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from backend.latents import LatentRows
from backend.posterior import Moments, Step, scalars
from backend.watching import Watch, passed
from backend.whole import Whole
from shared.collapse import Verdict


@dataclass(frozen=True)
class News:
    """What the watching rank knows and the others act on, too."""

    row: dict[str, Any] = field(default_factory=dict)
    evaluated_step: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    alarm_step: int | None = None


class AcrossRanks:
    """One rank's part, for batches that are shares of a whole one. Every rank makes the same calls in the same steps."""

    def __init__(self) -> None:
        self.news = News()
        self.figures: Tensor | None = None
        """`SCALARS` of the newest step over all ranks, on the device."""
        self._step = Step()
        self._sets: list[int] = []
        self._like: Tensor | None = None

    def add(self, latents: LatentRows, whole: Whole, watch: Watch | None) -> None:
        """Take in this rank's share of one batch; where there is a watch, that holds it."""
        self._like = latents.rows[0]
        self._sets = [sum(n) for n in zip(self._sets or [0] * len(whole.sets_of_rank), whole.sets_of_rank, strict=True)]
        if watch is not None:
            watch.add(latents, whole.stays)
        elif not whole.stand_in:
            self._step.add(latents.rows)

    def merged(self, own: Moments | None = None) -> Moments:
        """The moments of the step over all ranks, the same on each. Counts are known: nothing waits for a device."""
        assert self._like is not None
        own, counts, self._sets = own or self._step.take(), self._sets, []
        sums = (
            torch.cat([own.means, own.m2_mu[None]]) if own is not None else self._like.new_zeros(4, self._like.shape[1]).float()
        )
        parts = [torch.empty_like(sums) for _ in counts]
        dist.all_gather(parts, sums)
        moments = reduce(Moments.merge, (Moments(n, part[:3], part[3]) for n, part in zip(counts, parts, strict=True)))
        self.figures = scalars(moments)
        return moments

    def tell(self, trainer: L.Trainer, before: int, step: int, every: int, watch: Watch | None) -> None:
        """After a step in which an evaluation may have been made, all have its row and the verdicts."""
        if not passed(before, step, every):
            return
        if watch is not None:
            judged = watch.judging
            self.news = News(watch.row, watch.evaluated_step, judged.detector.verdicts, judged.alarm_step)
        self.news = trainer.strategy.broadcast(self.news)
