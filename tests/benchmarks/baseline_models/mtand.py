"""mTAND (Shukla & Marlin 2021, "Multi-time attention networks for irregularly sampled time series", ICLR).

mTAND-Full: attention from reference points to observations, a bidirectional GRU, a latent at each reference point; from these a
GRU classifies, and a GRU with attention from observed times to reference points reconstructs. mTAND-Enc classifies from the
attention directly. Formulas are those of the paper's sections 3 (attention) and 4 (the VAE and its objectives). As in the authors'
runs on PhysioNet 2012: one head, 128 reference points, one draw, the weight of the outcome. Hidden layers are all `width` wide.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backend.loss import Gaussian, gaussian_nll, kl_per_dim
from tests.benchmarks.baseline_models.grid import Grid

REFERENCE_POINTS = 128
OUTCOME_WEIGHT = 100.0
NOISE = 0.1
"""Standard deviation of the likelihood. The authors': 0.01 of values scaled to [0, 1]; here they are standardised."""


class TimeEmbedding(nn.Module):
    """phi(t) [..., W]: the first entry is w_0 t + a_0, the others sin(w_i t + a_i); all are learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.line = nn.Linear(1, width)

    def forward(self, time: Tensor) -> Tensor:
        """Times [...] to [..., W]."""
        first, rest = self.line(time[..., None]).split([1, self.line.out_features - 1], dim=-1)
        return torch.cat([first, rest.sin()], dim=-1)


class TimeAttention(nn.Module):
    """Values at some times, read at others: a mean weighted by softmax(phi(t) W_q W_k' phi(t_i)' / sqrt(W)), then a linear layer."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.embed = TimeEmbedding(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.out = nn.Linear(inputs, outputs)

    def scores(self, wanted: Tensor, given: Tensor) -> Tensor:
        """Times wanted [(P,) R] and given [(P,) T] to scores [(P,) R, T]."""
        query, key = self.query(self.embed(wanted)), self.key(self.embed(given))
        return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])

    def observed_means(self, wanted: Tensor, given: Tensor, value: Tensor, observed: Tensor) -> Tensor:
        """Mean of each variable [P, R, V] with a softmax over its own observed points, and whether it has any; [P, R, 2 * V].

        Values and masks [P, T, V] go through one matrix product; a softmax [P, R, T, V] for every variable takes much longer. Both
        are the same as long as scores of a stay differ by less than 80.
        """
        scores = self.scores(wanted, given)
        weight = (scores - scores.amax(dim=-1, keepdim=True).detach()).exp()
        total, mass = (weight @ torch.cat([value * observed, observed], dim=-1)).chunk(2, dim=-1)
        known = observed.amax(dim=1, keepdim=True).expand_as(mass)
        return torch.cat([total / mass.where(known > 0, 1.0), known], dim=-1)

    def means(self, wanted: Tensor, given: Tensor, value: Tensor) -> Tensor:
        """The same [P, R, D] of values [P, T, D] that are all there."""
        return self.scores(wanted, given).softmax(dim=-1) @ value


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


class Classifier(nn.Module):
    """A GRU over the reference points, and an MLP of two hidden layers on its last state."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), mlp(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[P, R, inputs] to logits [P]."""
        return self.head(self.gru(x)[1][0]).squeeze(-1)


class Reader(nn.Module):
    """The attention of both variants: a grid at the reference points."""

    reference: Tensor

    def __init__(self, variables: int, width: int, points: int, horizon_hours: float) -> None:
        super().__init__()
        self.horizon = horizon_hours
        self.attention = TimeAttention(2 * variables, width, width)
        self.register_buffer("reference", torch.linspace(0, 1, points))

    def forward(self, grid: Grid) -> Tensor:
        """A grid to [P, R, W]."""
        read = self.attention.observed_means(self.reference, grid.hours / self.horizon, grid.value, grid.observed)
        return self.attention.out(read)


class MTANDEnc(nn.Module):
    """mTAND-Enc: the outcome from the encoder's attention alone."""

    def __init__(self, variables: int, width: int, points: int = REFERENCE_POINTS, horizon_hours: float = 48.0) -> None:
        super().__init__()
        self.reader = Reader(variables, width, points, horizon_hours)
        self.classifier = Classifier(width, width)

    def forward(self, grid: Grid) -> Tensor:
        """Outcome logits [P]."""
        return self.classifier(self.reader(grid))


class Parts(NamedTuple):
    """Outcome logits [P] and the two terms of the bound in nats for each observation of a stay, [P]."""

    logit: Tensor
    recon: Tensor
    kl: Tensor

    def loss(self, outcome: Tensor) -> Tensor:
        """The whole objective, a scalar: the negative bound, and the cross entropy of `logit` with its weight."""
        return (self.recon + self.kl).mean() + OUTCOME_WEIGHT * outcome


class MTANDFull(nn.Module):
    """mTAND-Full: a VAE over the reference points that also classifies."""

    def __init__(
        self, variables: int, width: int, latent: int, points: int = REFERENCE_POINTS, horizon_hours: float = 48.0
    ) -> None:
        super().__init__()
        self.reader = Reader(variables, width, points, horizon_hours)
        self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.posterior = mlp(2 * width, width, 2 * latent)
        self.classifier = Classifier(latent, width)
        self.decoder = nn.GRU(latent, width, batch_first=True, bidirectional=True)
        self.attention = TimeAttention(2 * width, 2 * width, width)
        self.to_value = mlp(2 * width, width, variables)

    def encode(self, grid: Grid) -> Gaussian:
        """A latent at each reference point, [P, R, D]."""
        return Gaussian(*self.posterior(self.encoder(self.reader(grid))[0]).chunk(2, dim=-1))

    def decode(self, z: Tensor, grid: Grid) -> Tensor:
        """Latents to means [P, T, V] at the grid's times."""
        states = self.decoder(z)[0]
        read = self.attention.means(grid.hours / self.reader.horizon, self.reader.reference, states)
        return self.to_value(self.attention.out(read))

    def forward(self, grid: Grid, sample: bool = True) -> Parts:
        """Everything that is trained, from a draw of the latents or from their means."""
        posterior = self.encode(grid)
        z = posterior.sample() if sample else posterior.mu
        count = grid.observed.sum(dim=(1, 2)).clamp(min=1)
        logvar = z.new_tensor(2 * math.log(NOISE))
        nats = gaussian_nll(grid.value, self.decode(z, grid), logvar) * grid.observed
        return Parts(self.classifier(z), nats.sum(dim=(1, 2)) / count, kl_per_dim(posterior).sum(dim=(1, 2)) / count)
