"""SeqSetVAE: a latent per set of events, a causal transformer over the latents, a set decoder and an outcome classifier."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backend.batches import Batch
from backend.decoders import ChamferDecoder, Decoder, LikelihoodDecoder
from backend.layers import (
    AttentionPool,
    CausalBlock,
    FeedForward,
    FullSetBlock,
    InducedSetBlock,
    TimeEncoding,
    in_full_precision,
)
from backend.loss import Gaussian, kl_per_dim
from shared.config import LossConfig, ModelConfig

VALUE_HIDDEN = 32
MEASURED_VARIABLES = 256
"""Largest vocabulary whose grids of sets and variables go to the classifier unasked: they take about 240 bytes a cell."""


@dataclass(frozen=True)
class Encoded:
    """Posterior q(z|set) and prior of every level, each [S, D], and a draw of z or its mean, [S, levels * D]."""

    posterior: Gaussian
    prior: Gaussian
    z: Tensor

    def kl(self) -> Tensor:
        """KL of each set and dimension over all levels, [S, levels * D], unclamped."""
        return kl_per_dim(self.posterior, self.prior)


class EventEmbedding(nn.Module):
    """An event (variable, standardised value) as a vector: the variable's embedding, scaled and shifted by the value."""

    def __init__(self, variables: int, width: int, embeddings_VD: Tensor | None, embedding_dim: int) -> None:
        super().__init__()
        start = torch.randn(variables, embedding_dim) if embeddings_VD is None else embeddings_VD.clone()
        self.table = nn.Parameter(start, requires_grad=embeddings_VD is None)
        self.variable = nn.Linear(embedding_dim, 2 * width)
        self.value = nn.Sequential(nn.Linear(1, VALUE_HIDDEN), nn.GELU(), nn.Linear(VALUE_HIDDEN, width))

    def forward(self, batch: Batch) -> Tensor:
        """Events to [E, W]. The table is projected once per variable, not once per event."""
        shift, scale = self.variable(self.table)[batch.variable].chunk(2, dim=-1)
        return shift + (1 + scale) * self.value(batch.value[:, None])


class SetEncoder(nn.Module):
    """q(z_1..z_L | set): a set block and a pooled summary per level; deeper summaries feed the first latents.

    z_1 has the prior N(0, I) and sees the deepest summary; z_l has the prior p(z_l | z_<l) and sees a shallower one.
    """

    def __init__(self, config: ModelConfig, variables: int, embeddings_VD: Tensor | None) -> None:
        super().__init__()
        width, latent, levels = config.width, config.latent_dim, config.levels
        given = None if embeddings_VD is None else embeddings_VD.shape[1]
        self.embed = EventEmbedding(variables, width, embeddings_VD, given or config.embedding_dim or width)
        self.blocks = nn.ModuleList(
            InducedSetBlock(width, config.set_heads, config.inducing_points, config.induce_small_sets)
            if config.set_attention == "induced"
            else FullSetBlock(width, config.set_heads)
            for _ in range(levels)
        )
        self.pools = nn.ModuleList(AttentionPool(width, config.set_heads) for _ in range(levels))
        self.posteriors = nn.ModuleList(latent_head(width + level * latent, width, latent) for level in range(levels))
        self.priors = nn.ModuleList(latent_head(level * latent, width, latent) for level in range(1, levels))

    def forward(self, batch: Batch, sample: bool) -> Encoded:
        """Posterior of every set; `z` is a draw, or the mean when `sample` is off."""
        x, summaries = self.embed(batch), []
        for block, pool in zip(self.blocks, self.pools, strict=True):
            x = block(x, batch)
            summaries.append(pool(x, batch.set_of_event, batch.sets))
        z: list[Tensor] = []
        posteriors, priors = [], []
        for level, (head, summary) in enumerate(zip(self.posteriors, reversed(summaries), strict=True)):
            posterior = Gaussian(*in_full_precision(head, torch.cat([summary, *z], dim=-1)).chunk(2, dim=-1))
            standard = Gaussian(torch.zeros_like(posterior.mu), torch.zeros_like(posterior.mu))
            prior = Gaussian(*in_full_precision(self.priors[level - 1], torch.cat(z, -1)).chunk(2, -1)) if level else standard
            noise = batch.whole.noise_like(posterior.mu) if sample and batch.whole is not None else None
            z.append(posterior.sample(noise) if sample else posterior.mu)
            posteriors.append(posterior)
            priors.append(prior)
        return Encoded(_joined(posteriors), _joined(priors), torch.cat(z, dim=-1))


def latent_head(inputs: int, width: int, latent: int) -> nn.Sequential:
    """An MLP to (mu, logvar) [.., 2 * latent] that starts near N(0, I): KL begins low and has to be earned."""
    last = nn.Linear(width, 2 * latent)
    nn.init.normal_(last.weight, std=0.02)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.GELU(), last)


def _joined(levels: list[Gaussian]) -> Gaussian:
    return Gaussian(torch.cat([g.mu for g in levels], -1), torch.cat([g.logvar for g in levels], -1))


class SequenceModel(nn.Module):
    """A causal transformer over set latents with continuous time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.from_latent = nn.Linear(config.levels * config.latent_dim, config.width)
        self.time = TimeEncoding(config.width)
        self.blocks = nn.ModuleList(
            CausalBlock(config.width, config.transformer_heads, config.dropout) for _ in range(config.transformer_layers)
        )

    def forward(self, z_SD: Tensor, batch: Batch) -> Tensor:
        """Latents [S, levels * D] to states [S, W]; the state of a set depends on it and earlier sets only."""
        x = self.from_latent(z_SD) + self.time(batch.minute, batch.gap)
        for block in self.blocks:
            x = block(x, batch)
        return x


class Classifier(nn.Module):
    """Outcome of a stay: attention pooling over its states; optionally the measurements themselves beside them."""

    def __init__(self, config: ModelConfig, variables: int) -> None:
        super().__init__()
        wanted = config.classifier_measurements
        if wanted is None:
            wanted = variables <= MEASURED_VARIABLES
        self.measured = Measurements(config, variables) if wanted else None
        self.pool = AttentionPool(config.width, config.transformer_heads)
        self.body = FeedForward(config.width, dropout=config.dropout)
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Dropout(config.dropout), nn.Linear(config.width, 1))

    def forward(self, state_SW: Tensor, batch: Batch) -> Tensor:
        """States [S, W] to one logit per stay, [P]."""
        if self.measured is None:
            pooled = self.pool(state_SW, batch.stay_of_set, batch.stays)
        else:
            along, overall = self.measured(batch)
            pooled = overall + self.pool(state_SW + along, batch.stay_of_set, batch.stays)
        return in_full_precision(self.head, self.body(pooled)).squeeze(-1)


class Measurements(nn.Module):
    """What was measured, for the classifier alone: along the stay [S, W] and over all of it [P, W].

    Standardised values have heavy tails; asinh, linear near 0 and logarithmic far out, keeps a wild one from drowning the rest.
    """

    def __init__(self, config: ModelConfig, variables: int) -> None:
        super().__init__()
        self.variables = variables
        self.along = _dropped_mlp(3 * variables, config.width, config.dropout)
        self.overall = _dropped_mlp(8 * variables, config.width, config.dropout)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both views of a batch."""
        carried = carried_forward(batch, self.variables)
        overall = torch.cat([carried[batch.last_set], summarised(batch, self.variables)], dim=-1)
        return self.along(carried.asinh()), self.overall(overall.asinh())


def _dropped_mlp(inputs: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))


def carried_forward(batch: Batch, variables: int) -> Tensor:
    """Per set and variable: last value so far, 1 / (1 + hours since it was measured), ever measured; [S, 3 * V].

    Repeats within a set count with their mean, so the order of its events does not matter.
    """
    flat = batch.set_of_event * variables + batch.variable
    grid = batch.value.new_zeros(2, batch.sets * variables)
    both = torch.stack([batch.value, torch.ones_like(batch.value)])
    total, count = grid.index_add(1, flat, both).view(2, batch.sets, variables)
    place = torch.arange(batch.sets, device=flat.device)
    last = place[:, None].where(count > 0, -1).cummax(dim=0).values
    first = place - batch.position_of_set
    known = last >= first[:, None]
    last = last.clamp(min=0)
    value = (total / count.clamp(min=1)).gather(0, last)
    hours = (batch.minute[:, None] - batch.minute[last]) / 60
    return torch.cat([value * known, known / (1 + hours.clamp(min=0)), known.to(value.dtype)], dim=-1)


def summarised(batch: Batch, variables: int) -> Tensor:
    """Per stay and variable: mean, standard deviation, minimum, maximum, log(1 + count) of its values; [P, 5 * V], 0 if none."""
    flat = batch.stay_of_set[batch.set_of_event] * variables + batch.variable
    empty = batch.value.new_zeros(batch.stays * variables)
    count = empty.index_add(0, flat, torch.ones_like(batch.value))
    mean = empty.index_add(0, flat, batch.value) / count.clamp(min=1)
    variance = empty.index_add(0, flat, (batch.value - mean[flat]).square()) / count.clamp(min=1)
    low = empty.scatter_reduce(0, flat, batch.value, "amin", include_self=False)
    high = empty.scatter_reduce(0, flat, batch.value, "amax", include_self=False)
    each = torch.stack([mean, variance.sqrt(), low, high, count.log1p()])
    return each.view(5, batch.stays, variables).transpose(0, 1).flatten(1)


class SeqSetVAE(nn.Module):
    """The whole network. Every size is a field of `ModelConfig`; no loop runs over stays, sets or events."""

    def __init__(self, config: ModelConfig, loss: LossConfig, modelled_V: Tensor, embeddings_VD: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = SetEncoder(config, len(modelled_V), embeddings_VD)
        self.sequence = SequenceModel(config)
        self.to_decoder = (
            nn.Linear(config.levels * config.latent_dim, config.width) if config.decoder_input == "latent" else None
        )
        self.decoder: Decoder = (
            LikelihoodDecoder(config, modelled_V)
            if config.decoder == "likelihood"
            else ChamferDecoder(config, loss, self.encoder.embed.table.shape[1])
        )
        self.classifier = Classifier(config, len(modelled_V))

    def encode(self, batch: Batch, sample: bool) -> Encoded:
        """Posterior of every set."""
        return self.encoder(batch, sample)

    def states(self, z_SD: Tensor, batch: Batch) -> Tensor:
        """Causal states [S, W] over latents [S, levels * D]."""
        return self.sequence(z_SD, batch)

    def decoder_state(self, z_SD: Tensor, state_SW: Tensor) -> Tensor:
        """What the set decoder sees: the causal state, or the latent alone."""
        return state_SW if self.to_decoder is None else self.to_decoder(z_SD)

    def reconstruction_loss(self, z_SD: Tensor, state_SW: Tensor, batch: Batch) -> Tensor:
        """Loss of every set, [S]: nats for the likelihood decoder."""
        return self.decoder.loss(self.decoder_state(z_SD, state_SW), batch, self.encoder.embed.table.detach())

    def classify(self, state_SW: Tensor, batch: Batch) -> Tensor:
        """Outcome logits [P]."""
        return self.classifier(state_SW, batch)
