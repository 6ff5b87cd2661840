"""What the monitors of several ranks do together: each step's moments are merged, and evaluations are told to all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from backend.latents import LatentRows
from backend.posterior import Moments, Step, scalars
from backend.snapshots import ProbeResult
from backend.watching import Watch
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
        self.take_part: Callable[[], Any] | None = None
        """The probe, where a forward pass takes all ranks: the others make it with the watching one."""
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

    def leading(self, trainer: L.Trainer, probe: Callable[[], ProbeResult]) -> Callable[[], ProbeResult]:
        """The probe of the watching rank, which calls the others to it where it takes them; they wait in `tell`."""

        def together() -> ProbeResult:
            trainer.strategy.broadcast(None)
            return probe()

        return together if self.take_part is not None else probe

    def tell(self, trainer: L.Trainer, watch: Watch | None) -> None:
        """After an evaluation that may have been made, all have its row and the verdicts."""
        news = None
        if watch is not None:
            judged = watch.judging
            news = News(watch.row, watch.evaluated_step, judged.detector.verdicts, judged.alarm_step)
        while (told := trainer.strategy.broadcast(news)) is None:
            assert self.take_part is not None
            self.take_part()
        self.news = told
