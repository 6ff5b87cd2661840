"""The same network on padded blocks: every stay as long as the longest, every set as large as the largest of the batch.

How such models are commonly written, and the baseline of `train_throughput --padded`. Tests hold it against the product: same
weights, same loss. Full set attention and the likelihood decoder.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.batches import Batch
from backend.decoders import MIN_VARIANCE, LikelihoodDecoder
from backend.layers import AttentionPool, CausalBlock, FullSetBlock
from backend.lit import SeqSetVAEModule
from backend.loss import Gaussian, clamp_free_bits, gaussian_nll, kl_per_dim, outcome_loss
from backend.model import Classifier, SetEncoder


@dataclass(frozen=True)
class Grid:
    """P stays of T sets of N events, C = P * T cells; True in a mask means observed."""

    variable: Tensor
    """[C, N]"""
    value: Tensor
    """[C, N]"""
    there: Tensor
    """[C, N]"""
    real: Tensor
    """[C] whether the cell is a set"""
    flat: Batch

    @classmethod
    def of(cls, batch: Batch) -> "Grid":
        """Pad a batch."""
        cells, slot = batch.stays * batch.padded_length, batch.slot_of_set[batch.set_of_event]
        order = torch.argsort(slot, stable=True)
        size = torch.zeros(cells, dtype=torch.int64).index_add(0, slot, torch.ones_like(slot))
        place = torch.arange(len(slot)) - (size.cumsum(0) - size)[slot[order]]
        at = slot[order], place
        shape = cells, int(size.max())
        variable, value = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape)
        variable[at], value[at] = batch.variable[order], batch.value[order]
        there = torch.arange(shape[1]) < size[:, None]
        return cls(variable, value, there, size > 0, batch)

    def stays(self, x: Tensor) -> Tensor:
        """Cells [C, ...] to [P, T, ...]."""
        return x.view(self.flat.stays, self.flat.padded_length, *x.shape[1:])


def block(own: FullSetBlock, x: Tensor, seen: Tensor) -> Tensor:
    """[C, N, W] to [C, N, W]."""
    q, k, v = own.qkv(own.norm(x)).unflatten(-1, (3, own.heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])
    return own.ffn(x + own.out(mixed.transpose(1, 2).flatten(2)))


def causal(own: CausalBlock, x: Tensor) -> Tensor:
    """[P, T, W] to [P, T, W]."""
    q, k, v = own.qkv(own.norm(x)).unflatten(-1, (3, own.heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    return own.ffn(x + F.dropout(own.out(mixed), own.dropout, own.training))


def pool(own: AttentionPool, x: Tensor, seen: Tensor) -> Tensor:
    """[G, N, W] to [G, W]."""
    normed = own.norm(x)
    weight = own.score(normed).masked_fill(~seen[..., None], -torch.inf).softmax(dim=1)
    return (weight[..., None] * own.value(normed).unflatten(-1, (own.heads, -1))).sum(dim=1).flatten(1)


def encode(encoder: SetEncoder, grid: Grid, sample: bool) -> tuple[Tensor, Tensor]:
    """Latents [C, levels * D], and the KL [S, levels * D] of the cells that are sets."""
    shift, scale = encoder.embed.variable(encoder.embed.table)[grid.variable].chunk(2, dim=-1)
    x = shift + (1 + scale) * encoder.embed.value(grid.value[..., None])
    seen = grid.there.clone()
    seen[:, 0] = True  # a softmax over nothing is NaN
    summaries = []
    for own, pooling in zip(encoder.blocks, encoder.pools, strict=True):
        x = block(own, x, seen)  # type: ignore[arg-type]
        summaries.append(pool(pooling, x, seen))  # type: ignore[arg-type]
    z: list[Tensor] = []
    kl: list[Tensor] = []
    for level, head in enumerate(encoder.posteriors):
        posterior = Gaussian(*head(torch.cat([summaries[-1 - level], *z], dim=-1)).chunk(2, -1))
        prior = Gaussian(*encoder.priors[level - 1](torch.cat(z, dim=-1)).chunk(2, -1)) if level else None
        z.append(posterior.sample() if sample else posterior.mu)
        kl.append(kl_per_dim(posterior, prior))
    return torch.cat(z, dim=-1), torch.cat(kl, dim=-1)[grid.real]


def reconstruction(decoder: LikelihoodDecoder, state: Tensor, grid: Grid) -> Tensor:
    """Nats of each set, [S]."""
    presence, mean, raw = decoder.head(decoder.norm(decoder.body(state))).unflatten(-1, (3, -1)).unbind(1)
    occurs = torch.zeros_like(presence).scatter_reduce(1, grid.variable, grid.there.float(), "amax")
    what = F.binary_cross_entropy_with_logits(presence, occurs, reduction="none").sum(dim=1)
    logvar = (MIN_VARIANCE + F.softplus(raw.gather(1, grid.variable))).log()
    value = gaussian_nll(grid.value, mean.gather(1, grid.variable), logvar) * decoder.modelled_V[grid.variable] * grid.there
    return (what + value.sum(dim=1))[grid.real]


def classify(classifier: Classifier, state: Tensor, grid: Grid) -> Tensor:
    """Outcome logits [P] from states [P, T, W]; the measurements beside them come from the flat batch, as in the product."""
    real = grid.stays(grid.real)
    if classifier.measured is None:
        pooled = pool(classifier.pool, state, real)
    else:
        along, overall = classifier.measured(grid.flat)
        pooled = overall + pool(classifier.pool, state + grid.flat.pad_sets(along), real)
    return classifier.head(classifier.body(pooled)).squeeze(-1)


def loss(module: SeqSetVAEModule, grid: Grid, sample: bool = False) -> tuple[Tensor, Tensor]:
    """(total loss, outcome logits [P])."""
    net, config, batch = module.net, module.config.loss, grid.flat
    z, kl = encode(net.encoder, grid, sample)
    time = net.sequence.time(batch.pad_sets(batch.minute).flatten(), batch.pad_sets(batch.gap).flatten())
    state = grid.stays(net.sequence.from_latent(z) + time)
    for own in net.sequence.blocks:
        state = causal(own, state)  # type: ignore[arg-type]
    assert isinstance(net.decoder, LikelihoodDecoder)
    recon = reconstruction(net.decoder, net.decoder_state(z, state.flatten(0, 1)), grid).mean()
    logit = classify(net.classifier, state, grid)
    bound = recon + module.beta * clamp_free_bits(kl, module.free_bits, config.free_bits_mode)
    w_recon, w_prediction, penalty = module._weights(recon.new_zeros(()))
    prediction = outcome_loss(logit, batch.label, config, module.positive_weight)
    return w_recon * bound + w_prediction * prediction + penalty, logit
