"""A validation that processes share: each takes its batches, and all have the totals that one process would have.

Every process makes as many steps, for they may meet in each of them (FSDP): who has a batch too few repeats one, uncounted.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


class Scored(NamedTuple):
    """What one batch adds."""

    sums: Tensor
    """[N] sums of terms, and counts"""
    score: Tensor
    """[L] probability of the outcome, of stays whose label is known"""
    label: Tensor
    """[L] 0 or 1"""


@dataclass(frozen=True)
class Part:
    """Each `world`-th batch, from the `rank`-th on."""

    rank: int = 0
    world: int = 1
    batches: float = math.inf
    """How many there are, where there are several processes."""

    def of(self, batches: list[list[int]]) -> list[list[int]]:
        """This process's batches, as many as every other's."""
        own = batches[self.rank :: self.world]
        return own if len(own) * self.world >= len(batches) else [*own, batches[0]]

    def number(self, index: int) -> int:
        """Which batch of all the `index`-th own one is."""
        return index * self.world + self.rank

    def counts(self, index: int) -> bool:
        """Whether it is not there only to make up the number of steps."""
        return self.number(index) < self.batches

    def draw(self, seed: int, index: int) -> None:
        """The noise of a batch depends on which one it is, and not on who evaluates it, nor on what came before."""
        state = np.random.SeedSequence([seed, 1, self.number(index)]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def gathered(self, own: dict[int, Scored]) -> list[Scored]:
        """What all batches add, by number, in their order: the same on each process, which all have to call this."""
        found = own
        if self.world > 1:
            others: list[dict[int, Scored] | None] = [None] * self.world
            dist.all_gather_object(others, {number: Scored(*(x.cpu() for x in row)) for number, row in own.items()})
            found = {number: row for rows in others if rows is not None for number, row in rows.items()}
        return [found[number] for number in sorted(found)]
