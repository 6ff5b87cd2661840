"""GRU-D (Che et al. 2018, "Recurrent neural networks for multivariate time series with missing values", Sci. Rep. 8:6085).

A GRU with one step for each time of a stay; formulas are those of the paper's Methods. Its regularisation (dropout, batch
normalisation) is left out. Decays and input projections of all times are computed at once: the loop holds only what depends on
the state before.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.benchmarks.baseline_models.grid import Grid


@dataclass(frozen=True)
class Decaying:
    """What GRU-D reads beside values and masks; made of a grid once, outside of training."""

    grid: Grid
    since: Tensor
    """[P, T, V] hours since the variable's last observation before this time, or since the stay's first time"""
    before: Tensor
    """[P, T, V] the variable's last observation before this time; 0, the training mean, where there is none"""

    @classmethod
    def of(cls, grid: Grid) -> "Decaying":
        """Walk along the times."""
        since, before = torch.zeros_like(grid.value), torch.zeros_like(grid.value)
        for t in range(1, grid.value.shape[1]):
            seen = grid.observed[:, t - 1].bool()
            gap = (grid.hours[:, t] - grid.hours[:, t - 1]).clamp(min=0)[:, None]
            since[:, t] = gap + torch.where(seen, 0.0, since[:, t - 1])
            before[:, t] = torch.where(seen, grid.value[:, t - 1], before[:, t - 1])
        return cls(grid, since, before)


class GRUD(nn.Module):
    """GRU-D and a linear classifier on the state at a stay's last time."""

    def __init__(self, variables: int, width: int) -> None:
        super().__init__()
        self.input_decay = nn.Parameter(torch.empty(variables))
        self.input_decay_bias = nn.Parameter(torch.zeros(variables))
        self.hidden_decay = nn.Linear(variables, width)
        self.from_input = nn.Linear(2 * variables, 3 * width)
        self.gates = nn.Linear(width, 2 * width, bias=False)
        self.candidate = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 1)
        nn.init.uniform_(self.input_decay, -1 / math.sqrt(variables), 1 / math.sqrt(variables))
        nn.init.zeros_(self.hidden_decay.bias)

    def inputs(self, stays: Decaying) -> Tensor:
        """m x + (1 - m) (g x' + (1 - g) mean), [P, T, V]: a missing value falls from the last one x' to the mean, which is 0."""
        observed = stays.grid.observed
        return observed * stays.grid.value + (1 - observed) * self.input_decays(stays) * stays.before

    def input_decays(self, stays: Decaying) -> Tensor:
        """g = exp(-max(0, w d + b)) of the hours d since the last observation, [P, T, V]."""
        return (-(self.input_decay * stays.since + self.input_decay_bias).relu()).exp()

    def hidden_decays(self, stays: Decaying) -> Tensor:
        """Factors exp(-max(0, W d + b)) on the state before each time, [P, T, W]."""
        return (-self.hidden_decay(stays.since).relu()).exp()

    def forward(self, stays: Decaying) -> Tensor:
        """Outcome logits [P]. With the decayed state h: r, z = sigmoid(..), c = tanh(W x + U (r h) + V m + b), h = (1 - z) h + z c."""
        given = self.from_input(torch.cat([self.inputs(stays), stays.grid.observed], dim=-1))
        width = self.candidate.out_features
        state, states = given.new_zeros(len(given), width), []
        for own, decay in zip(given.unbind(1), self.hidden_decays(stays).unbind(1), strict=True):
            state = decay * state
            reset, update = (own[:, : 2 * width] + self.gates(state)).sigmoid().chunk(2, dim=-1)
            state = torch.lerp(state, (own[:, 2 * width :] + self.candidate(reset * state)).tanh(), update)
            states.append(state)
        last = torch.stack(states, dim=1)[torch.arange(len(given)), stays.grid.last]
        return self.head(last).squeeze(-1)
