"""The reference: the same network, one stay and one set at a time, in the plainest form. Slow and obviously right.

Tests compare values and gradients of the vectorised model with it; `train_throughput` measures the speed-up over it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.batches import Batch
from backend.buckets import bucket_width
from backend.decoders import MIN_VARIANCE, ChamferDecoder, LikelihoodDecoder, slot_codes
from backend.layers import AttentionPool, CausalBlock, FullSetBlock, InducedSetBlock
from backend.lit import SeqSetVAEModule
from backend.loss import Gaussian, beta_at, kl_per_dim, outcome_loss
from backend.model import SeqSetVAE


@dataclass
class Stay:
    """One patient: a list of sets, each (variable [n], value [n]), and times [T]."""

    sets: list[tuple[Tensor, Tensor]]
    minute: Tensor
    gap: Tensor
    label: Tensor


def split(batch: Batch) -> list[Stay]:
    """A batch as separate stays and sets."""
    stays = []
    for p in range(batch.stays):
        own = (batch.stay_of_set == p).nonzero().squeeze(1)
        sets = []
        for s in own.tolist():
            events = batch.set_of_event == s
            sets.append((batch.variable[events], batch.value[events]))
        stays.append(Stay(sets, batch.minute[own], batch.gap[own], batch.label[p]))
    return stays


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention [n, W] x [m, W] -> [n, W], head by head; mask [n, m] True = may look."""
    out = []
    for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        score = qh @ kh.T / math.sqrt(qh.shape[-1])
        if mask is not None:
            score = score.masked_fill(~mask, -torch.inf)
        out.append(score.softmax(-1) @ vh)
    return torch.cat(out, -1)


def set_block(block: FullSetBlock | InducedSetBlock, x: Tensor) -> Tensor:
    """One set [n, W] through a set block."""
    normed = block.norm(x)
    if isinstance(block, FullSetBlock):
        q, k, v = block.qkv(normed).chunk(3, -1)
        return block.ffn(x + block.out(attention(q, k, v, block.heads)))
    if int(bucket_width(np.array([len(x)]))[0]) <= block.points and not block.small:
        mixed = attention(block.read_query(normed), block.read_key(normed), block.read_value(normed), block.heads)
        return block.ffn(x + block.read_out(mixed))
    query = block.gather_query(block.induce)
    mixed = attention(query, block.gather_key(normed), block.gather_value(normed), block.heads)
    token = block.induce + block.gather_out(mixed)
    token = block.token_norm(token + F.relu(block.token_ffn(token)))
    read = attention(block.read_query(normed), block.read_key(token), block.read_value(token), block.heads)
    return block.ffn(x + block.read_out(read))


def pool(block: AttentionPool, x: Tensor) -> Tensor:
    """Members [n, W] to one vector [W]."""
    normed = block.norm(x)
    weight = block.score(normed).softmax(0)
    value = block.value(normed).unflatten(-1, (block.heads, -1))
    return (weight[..., None] * value).sum(0).flatten()


def causal_block(block: CausalBlock, x: Tensor) -> Tensor:
    """One stay [T, W] through a transformer layer."""
    q, k, v = block.qkv(block.norm(x)).chunk(3, -1)
    mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    mixed = block.out(attention(q, k, v, block.heads, mask))
    return block.ffn(x + F.dropout(mixed, block.dropout, block.training))


def encode_set(net: SeqSetVAE, variable: Tensor, value: Tensor, sample: bool) -> tuple[Tensor, Tensor]:
    """One set to (latent [levels * D], KL per dimension [levels * D])."""
    encoder = net.encoder
    embed = encoder.embed
    shift, scale = embed.variable(embed.table[variable]).chunk(2, -1)
    x = shift + (1 + scale) * embed.value(value[:, None])
    summaries = []
    for block, pooling in zip(encoder.blocks, encoder.pools, strict=True):
        x = set_block(block, x)  # type: ignore[arg-type]
        summaries.append(pool(pooling, x))  # type: ignore[arg-type]
    z: list[Tensor] = []
    kl: list[Tensor] = []
    for level, head in enumerate(encoder.posteriors):
        posterior = Gaussian(*head(torch.cat([summaries[-1 - level], *z])).chunk(2, -1))
        prior = Gaussian(*encoder.priors[level - 1](torch.cat(z)).chunk(2, -1)) if level else None
        z.append(posterior.sample() if sample else posterior.mu)
        kl.append(kl_per_dim(posterior, prior))
    return torch.cat(z), torch.cat(kl)


def decode_loss(net: SeqSetVAE, state: Tensor, variable: Tensor, value: Tensor) -> Tensor:
    """Reconstruction loss of one set from its state [W]."""
    decoder = net.decoder
    if isinstance(decoder, LikelihoodDecoder):
        presence, mean, raw = decoder.head(decoder.norm(decoder.body(state))).chunk(3)
        occurs = torch.zeros_like(presence)
        occurs[variable] = 1.0
        total = F.binary_cross_entropy_with_logits(presence, occurs, reduction="sum")
        for v, x in zip(variable.tolist(), value, strict=True):
            if decoder.modelled_V[v]:
                variance = MIN_VARIANCE + F.softplus(raw[v])
                total = total - torch.distributions.Normal(mean[v], variance.sqrt()).log_prob(x)
        return total
    assert isinstance(decoder, ChamferDecoder)
    x = decoder.from_state(state) + slot_codes(torch.arange(len(value)), decoder.slot_scale)
    for block in decoder.blocks:
        x = set_block(block, x)  # type: ignore[arg-type]
    x = decoder.norm(x)
    point = F.normalize(decoder.direction(x), dim=-1)
    size = decoder.magnitude(x).squeeze(-1)
    target = F.normalize(net.encoder.embed.table.detach(), dim=-1)[variable]
    costs = (
        1 - point @ target.T,
        (size[:, None] - value[None, :]).abs(),
        torch.cdist(point * size[:, None], target * value[:, None]).square(),
    )
    return sum(w * (c.amin(1).mean() + c.amin(0).mean()) for w, c in zip(decoder.weights, costs, strict=True))


def carried(stay: Stay, variables: int) -> Tensor:
    """What was last measured of every variable, [T, 3 * V]; see `backend.model.carried_forward`."""
    last = torch.zeros(variables)
    when = torch.full((variables,), -torch.inf)
    rows = []
    for t, (variable, value) in enumerate(stay.sets):
        for v in variable.unique().tolist():
            last[v] = value[variable == v].mean()
            when[v] = stay.minute[t]
        known = when.isfinite()
        recency = torch.where(known, 1 / (1 + (stay.minute[t] - when) / 60), 0.0)
        rows.append(torch.cat([last.clone(), recency, known.float()]))
    return torch.stack(rows)


def summary(stay: Stay, variables: int) -> Tensor:
    """Mean, standard deviation, minimum, maximum, log(1 + count) of every variable over a stay, [5 * V]."""
    variable, value = (torch.cat(parts) for parts in zip(*stay.sets, strict=True))
    out = torch.zeros(5, variables)
    for v in variable.unique().tolist():
        x = value[variable == v]
        out[:, v] = torch.stack([x.mean(), x.std(correction=0), x.min(), x.max(), torch.tensor(len(x)).log1p()])
    return out.flatten()


def loss(module: SeqSetVAEModule, stays: list[Stay], sample: bool = False) -> tuple[Tensor, Tensor]:
    """(total loss, outcome logits [P]) of stays, looping over each stay and each set."""
    net, config = module.net, module.config
    recon: list[Tensor] = []
    kls: list[Tensor] = []
    logits: list[Tensor] = []
    for stay in stays:
        z, kl = zip(*(encode_set(net, variable, value, sample) for variable, value in stay.sets), strict=True)
        latents = torch.stack(z)
        state = net.sequence.from_latent(latents) + net.sequence.time(stay.minute, stay.gap)
        for block in net.sequence.blocks:
            state = causal_block(block, state)  # type: ignore[arg-type]
        seen = state if net.to_decoder is None else net.to_decoder(latents)
        recon += [decode_loss(net, s, *events) for s, events in zip(seen, stay.sets, strict=True)]
        kls += kl
        head = net.classifier
        overall = 0.0
        if head.measured is not None:
            along = carried(stay, head.measured.variables)
            state = state + head.measured.along(along.asinh())
            overall = head.measured.overall(torch.cat([along[-1], summary(stay, head.measured.variables)]).asinh())
        logits.append(head.head(head.body(overall + pool(head.pool, state))).squeeze(-1))
    kl_mean = torch.stack(kls).mean(0)
    floor = config.loss.free_bits
    kl_loss = kl_mean.clamp(min=floor).sum() if config.loss.free_bits_mode == "dimension" else kl_mean.sum().clamp(min=floor)
    logit = torch.stack(logits)
    outcome = outcome_loss(logit, torch.stack([s.label for s in stays]), config.loss, module.positive_weight)
    bound = torch.stack(recon).mean() + beta_at(0, config.loss) * kl_loss
    return config.loss.recon_weight * bound + config.loss.prediction_weight * outcome, logit
