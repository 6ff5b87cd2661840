"""What a rank's share of a batch knows of the whole: sums over all ranks, and the noise that they draw as one.

Means over the sets of a batch are no means of the ranks' means. Every rank divides its own sums by the counts of the whole batch
and the sums are added up over ranks, so that each has the value that one process would have. What flows back is multiplied by the
number of ranks, because DDP divides gradients by it: the gradient, too, is that of one process.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks of a tensor; its gradient is that of the own part, times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """The sum."""
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """See the class."""
        return gradients[0] * dist.get_world_size()


@dataclass(frozen=True)
class Whole:
    """The batch that a rank's batch is a share of. The counts are the same on every rank, who all read the same tables."""

    sets: int
    stays: int
    labelled: int
    """Stays whose outcome is known"""
    sets_of_rank: tuple[int, ...]
    """Sets in the share of each rank"""
    place: Tensor
    """[S] place of each own set in the whole batch"""
    stand_in: bool = False
    """Whether there was no stay for this rank: it goes through the motions with another's, which counts for nothing."""

    def noise_like(self, x_SD: Tensor) -> Tensor:
        """This rank's rows of the normal noise that one process would draw for the whole batch: every rank draws all of it."""
        return torch.randn(self.sets, x_SD.shape[1], dtype=x_SD.dtype, device=x_SD.device)[self.place]

    def means(self, recon_S: Tensor, kl_SD: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means over the sets of the whole batch, [1] and [1, D], and the sum over ranks of a term that is a share already.

        One reduction of a vector of D + 2, which stays on the device.
        """
        own = torch.cat([recon_S.sum()[None] / self.sets, kl_SD.sum(dim=0) / self.sets, prediction[None]])
        total = _SumOverRanks.apply(own * 0 if self.stand_in else own)
        return total[:1], total[None, 1:-1], total[-1]


def draw_apart(rank: int) -> None:
    """From here on every rank draws for itself, as for dropout: shares of one batch are to have masks of their own."""
    state = np.random.SeedSequence([torch.initial_seed(), 1 + rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
