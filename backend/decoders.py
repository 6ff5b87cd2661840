"""From a state per set to a loss on the set and to reconstructed values: `likelihood` and `chamfer` behind one interface."""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend.batches import Batch, Bucket
from backend.layers import FeedForward, FullSetBlock, in_full_precision
from backend.loss import gaussian_nll
from backend.shards import full
from shared.config import LossConfig, ModelConfig

MIN_VARIANCE = 0.01
"""Floor of a decoded variance, in squared standard deviations: a value known exactly cannot fake unbounded likelihood."""


class Reconstruction(NamedTuple):
    """Decoded values of the observed events: `mean` [E] and `std` [E] in standard deviations; std None if not modelled."""

    mean: Tensor
    std: Tensor | None


class Decoder(Protocol):
    """What the model asks of a set decoder."""

    def loss(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Tensor:
        """Reconstruction loss of every set, [S]."""

    def error(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Tensor:
        """A non-negative reconstruction error of every set, [S], for ratios: it has no variance to divide by."""

    def reconstruct(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Reconstruction:
        """Decoded values for the observed events."""

    def occurrence(self, state_SW: Tensor, batch: Batch) -> Tensor | None:
        """Probability that each variable occurs in each set, [S, V]; None where that is not modelled."""


class LikelihoodDecoder(nn.Module):
    """p(set | state) in nats: a Bernoulli over the vocabulary for what occurs, a Gaussian with learned variance per value.

    Values of constant variables are not modelled: a Gaussian on them would fake likelihood without bound.
    """

    modelled_V: Tensor

    def __init__(self, config: ModelConfig, modelled_V: Tensor) -> None:
        super().__init__()
        self.body = FeedForward(config.width)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, 3 * len(modelled_V))
        self.register_buffer("modelled_V", modelled_V.bool())

    def _parameters_of(self, state_SW: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Presence logits [S, V], and mean [E] and log variance [E] of each observed event."""
        presence, mean, raw = in_full_precision(self.head, self.norm(self.body(state_SW))).unflatten(-1, (3, -1)).unbind(1)
        at = (batch.set_of_event, batch.variable)
        return presence, mean[at], (MIN_VARIANCE + F.softplus(raw[at])).log()

    def loss(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Tensor:
        """Negative log likelihood of each set, [S] in nats."""
        presence, mean, logvar = self._parameters_of(state_SW, batch)
        occurs = torch.zeros_like(presence)
        occurs[batch.set_of_event, batch.variable] = 1.0
        what = F.binary_cross_entropy_with_logits(presence, occurs, reduction="none").sum(dim=1)
        value = gaussian_nll(batch.value, mean, logvar) * self.modelled_V[batch.variable]
        return what.index_add(0, batch.set_of_event, value)

    def error(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Tensor:
        """Squared error of what occurs (Brier score over the vocabulary) plus that of the values, [S]."""
        presence, mean, _ = self._parameters_of(state_SW, batch)
        occurs = torch.zeros_like(presence)
        occurs[batch.set_of_event, batch.variable] = 1.0
        what = (presence.sigmoid() - occurs).square().sum(dim=1)
        value = (mean - batch.value).square() * self.modelled_V[batch.variable]
        return what.index_add(0, batch.set_of_event, value)

    def reconstruct(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Reconstruction:
        """Mean and standard deviation of each observed event."""
        _, mean, logvar = self._parameters_of(state_SW, batch)
        return Reconstruction(mean, (0.5 * logvar).exp())

    def occurrence(self, state_SW: Tensor, batch: Batch) -> Tensor:
        """Probability that each variable occurs in each set, [S, V]."""
        return self._parameters_of(state_SW, batch)[0].sigmoid()


class ChamferDecoder(nn.Module):
    """The older system's decoder: as many points as the set has events, matched by a Chamfer distance.

    An event is the vector magnitude * direction: its standardised value times its variable's unit embedding. Points start
    from slots (random but fixed codes of their number), see the state, and attend to each other.
    """

    def __init__(self, config: ModelConfig, loss: LossConfig, embedding_dim: int) -> None:
        super().__init__()
        self.weights = loss.chamfer_weights
        self.from_state = nn.Linear(config.width, config.width)
        self.slot_scale = nn.Parameter(torch.ones(config.width))
        self.blocks = nn.ModuleList(FullSetBlock(config.width, config.set_heads) for _ in range(config.levels))
        self.norm = nn.LayerNorm(config.width)
        self.direction = nn.Linear(config.width, embedding_dim)
        self.magnitude = nn.Linear(config.width, 1)

    def _points(self, state_SW: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit directions [E, D] and magnitudes [E], one point for each event of a set."""
        slot = slot_numbers(batch)
        x = self.from_state(state_SW)[batch.set_of_event] + slot_codes(slot, self.slot_scale)
        for block in self.blocks:
            x = block(x, batch)
        x = self.norm(x)
        return F.normalize(in_full_precision(self.direction, x), dim=-1), in_full_precision(self.magnitude, x).squeeze(-1)

    def loss(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Tensor:
        """Weighted Chamfer distance of each set, [S]: direction (1 - cosine), magnitude (absolute), full (squared)."""
        point, size = self._points(state_SW, batch)
        target = F.normalize(full(embedding_VD.detach()).float(), dim=-1)[batch.variable]
        parts = (batch.by_bucket(x) for x in (point, size, target, batch.value))
        per_set = [self._chamfer(*pieces) for pieces in zip(batch.buckets, *parts, strict=True)]
        return torch.zeros_like(state_SW[:, 0], dtype=torch.float32).index_copy(0, batch.set_order, torch.cat(per_set))

    def error(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Tensor:
        """The Chamfer distance is an error already."""
        return self.loss(state_SW, batch, embedding_VD)

    def _chamfer(self, bucket: Bucket, point: Tensor, size: Tensor, target: Tensor, value: Tensor) -> Tensor:
        with torch.autocast(point.device.type, enabled=False):
            cosine = bucket.pad(point) @ bucket.pad(target).transpose(1, 2)
        r, t = bucket.pad(size)[:, :, None], bucket.pad(value)[:, None, :]
        full = r.square() + t.square() - 2 * r * t * cosine
        total = torch.zeros(bucket.count, device=cosine.device)
        for weight, cost in zip(self.weights, (1 - cosine, (r - t).abs(), full), strict=True):
            total = total + weight * both_ways(cost, bucket.observed)
        return total

    def reconstruct(self, state_SW: Tensor, batch: Batch, embedding_VD: Tensor) -> Reconstruction:
        """The magnitude of the point whose direction is nearest to each observed event's variable."""
        point, size = self._points(state_SW, batch)
        target = F.normalize(full(embedding_VD.detach()).float(), dim=-1)[batch.variable]
        means = []
        parts = (batch.by_bucket(x) for x in (point, size, target))
        for bucket, points, sizes, targets in zip(batch.buckets, *parts, strict=True):
            cosine = bucket.pad(targets) @ bucket.pad(points).transpose(1, 2)
            if bucket.observed is not None:
                cosine = cosine.masked_fill(~bucket.observed[:, None, :], -torch.inf)
            nearest = cosine.argmax(dim=-1)
            means.append(bucket.flat(bucket.pad(sizes).gather(1, nearest)))
        return Reconstruction(torch.cat(means), None)

    def occurrence(self, state_SW: Tensor, batch: Batch) -> None:
        """Not modelled."""


def both_ways(cost: Tensor, observed: Tensor | None) -> Tensor:
    """Chamfer reduction of pairwise costs [G, n, n]: mean over points of the nearest target, plus the reverse; [G]."""
    if observed is None:
        return cost.amin(dim=2).mean(dim=1) + cost.amin(dim=1).mean(dim=1)
    pair = observed[:, :, None] & observed[:, None, :]
    far = cost.masked_fill(~pair, torch.inf)
    count = observed.sum(dim=1)
    there = far.amin(dim=2).masked_fill(~observed, 0.0).sum(dim=1)
    back = far.amin(dim=1).masked_fill(~observed, 0.0).sum(dim=1)
    return (there + back) / count


def slot_numbers(batch: Batch) -> Tensor:
    """0, 1, ... within each set, [E]: which of a set's points an event slot is. Says nothing of the event in it."""
    numbers = []
    for bucket in batch.buckets:
        own = torch.arange(bucket.width, device=batch.value.device).expand(bucket.count, -1)
        numbers.append(bucket.flat(own))
    return torch.cat(numbers)


def slot_codes(slot_E: Tensor, scale_W: Tensor) -> Tensor:
    """Fixed pseudo-random codes of slot numbers, [E, W], for any number of slots."""
    wave = torch.arange(1, len(scale_W) + 1, device=scale_W.device, dtype=torch.float32)
    return (torch.sin((slot_E[:, None].float() + 1) * wave * 0.7548776662) * scale_W).to(scale_W.dtype)
