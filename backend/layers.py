"""The blocks SeqSetVAE is made of. Linears and norms work on flat events [E, W] or flat sets [S, W]; only the attention
products see dense blocks. Tensor names end in their shape: E events, S sets, P stays, W width, H heads, M inducing points.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend.batches import Batch, Bucket


def segment_softmax(score_NH: Tensor, segment_N: Tensor, segments: int) -> Tensor:
    """Softmax of scores [N, H] over the members of each segment (ids [N], below `segments`)."""
    index = segment_N[:, None].expand_as(score_NH)
    peak = score_NH.new_full((segments, score_NH.shape[1]), -torch.inf)
    peak = peak.scatter_reduce(0, index, score_NH.detach(), "amax", include_self=True)
    weight = (score_NH - peak[segment_N]).exp()
    total = weight.new_zeros(segments, weight.shape[1]).index_add(0, segment_N, weight)
    return weight / total[segment_N]


def segment_sum(x_NW: Tensor, weight_NH: Tensor, segment_N: Tensor, segments: int) -> Tensor:
    """Weighted sums of [N, W] over the members of each segment (ids [N], below `segments`), one for each weight, [segments, H, W].

    As bags of embeddings: products [N, H, W] are never written out, and the rounding of a segment depends on no other.
    """
    heads, member_N = weight_NH.shape[1], segment_N.argsort(stable=True)
    size_S = segment_N.new_zeros(segments).index_add(0, segment_N, torch.ones_like(segment_N))
    size_HS = size_S.repeat(heads)
    sums = F.embedding_bag(
        member_N.repeat(heads),
        x_NW,
        size_HS.cumsum(0) - size_HS,
        mode="sum",
        per_sample_weights=weight_NH[member_N].t().flatten(),
    )
    return sums.unflatten(0, (heads, segments)).transpose(0, 1)


def in_full_precision(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` in fp32, also inside autocast: for the few small layers whose rounding would be seen in a figure."""
    with torch.autocast(x.device.type, enabled=False):
        return module(x.float())


def attend(qkv_NW: Tensor, bucket: Bucket, heads: int) -> Tensor:
    """Attention among the events of each set of a bucket: queries, keys and values side by side [N, 3 * W] to [N, W]."""
    if bucket.width == 1:
        return qkv_NW.chunk(3, dim=-1)[2]
    q, k, v = bucket.pad(qkv_NW).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    mask = None if bucket.observed is None else bucket.observed[:, None, None, :]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return bucket.flat(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Pre-norm residual feed-forward, `x + W2 gelu(W1 norm(x))`."""

    def __init__(self, width: int, expansion: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] to [..., W]."""
        return x + self.dropout(self.down(F.gelu(self.up(self.norm(x)))))


class FullSetBlock(nn.Module):
    """Self-attention among the events of each set, then a feed-forward: permutation-equivariant within sets."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ffn = FeedForward(width, expansion=1)

    def forward(self, x_EW: Tensor, batch: Batch) -> Tensor:
        """[E, W] to [E, W]; no event sees another set."""
        qkv = self.qkv(self.norm(x_EW))
        pieces = zip(batch.by_bucket(qkv), batch.buckets, strict=True)
        mixed = torch.cat([attend(own, bucket, self.heads) for own, bucket in pieces])
        return self.ffn(x_EW + self.out(mixed))


class InducedSetBlock(nn.Module):
    """Induced set attention (Lee et al. 2019): M learned points gather from the set, its events read from them.

    The points bound the cost of large sets. A set of no more than M events (its width in its bucket) is its own summary: events
    read from each other, which costs less than gathering first. With `small` even such sets go through the points.

    Where points are used products are reordered, exactly, so that projections run on events: keys of the induced tokens are never
    formed, for q . (W_k t) = (W_k' q) . t, and values likewise, for sum_m a_m (W_v t_m) = W_v (sum_m a_m t_m).
    """

    def __init__(self, width: int, heads: int, points: int, small: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.points = points
        self.small = small
        self.scale = 1 / math.sqrt(width // heads)
        self.norm = nn.LayerNorm(width)
        self.induce = nn.Parameter(torch.randn(points, width) / math.sqrt(width))
        self.gather_query = nn.Linear(width, width, bias=False)
        self.gather_key = nn.Linear(width, width, bias=False)
        self.gather_value = nn.Linear(width, width)
        self.gather_out = nn.Linear(width, width)
        self.token_ffn = nn.Linear(width, width)
        self.token_norm = nn.LayerNorm(width)
        self.read_query = nn.Linear(width, width)
        self.read_key = nn.Linear(width, width, bias=False)
        self.read_value = nn.Linear(width, width)
        self.read_out = nn.Linear(width, width)
        self.ffn = FeedForward(width, expansion=1)

    def forward(self, x_EW: Tensor, batch: Batch) -> Tensor:
        """[E, W] to [E, W]; no event sees another set."""
        normed = self.norm(x_EW)
        own = [bucket for bucket in batch.buckets if bucket.width <= self.points and not self.small]
        induced = list(batch.buckets[len(own) :]) or [NO_SETS]  # its parameters get gradients of zero, and not none
        few, many = normed.split([own[-1].stop, len(normed) - own[-1].stop]) if own else (normed[:0], normed)
        tokens = torch.cat(self._gather(many, induced))
        tokens = self.token_norm(tokens + F.relu(self.token_ffn(tokens)))
        mixed = torch.cat([*self._among(few, own), self._read(many, tokens, induced)])
        return self.ffn(x_EW + self.read_out(mixed))

    def _among(self, x_EW: Tensor, buckets: Sequence[Bucket]) -> list[Tensor]:
        """What each event reads from the events of its set, [events, W] of each bucket."""
        read = self.read_query, self.read_key, self.read_value
        bias = torch.cat([self.read_query.bias, torch.zeros_like(self.read_query.bias), self.read_value.bias])
        qkv = F.linear(x_EW, torch.cat([part.weight for part in read]), bias)
        pieces = zip(cut(qkv, buckets), buckets, strict=True)
        return [attend(own, bucket, self.heads) for own, bucket in pieces]

    def _gather(self, x_EW: Tensor, buckets: Sequence[Bucket]) -> list[Tensor]:
        """Tokens [sets, M, W] of each bucket, in bucket order."""
        heads, points = self.heads, self.points
        query_MHK = self.gather_query(self.induce).view(points, heads, -1) * self.scale
        key_HKW = self.gather_key.weight.view(heads, -1, x_EW.shape[1])
        score_EHM = (x_EW @ torch.einsum("mhk,hkw->whm", query_MHK, key_HKW).flatten(1)).unflatten(-1, (heads, points))
        out_WHK = self.gather_out.weight.view(x_EW.shape[1], heads, -1)
        value_EHK = self.gather_value(x_EW).unflatten(-1, (heads, -1))
        value_EHW = torch.einsum("ehk,whk->ehw", value_EHK, out_WHK)
        base_MW = self.induce + self.gather_out.bias
        tokens = []
        for bucket, own_score, own_value in zip(buckets, cut(score_EHM, buckets), cut(value_EHW, buckets), strict=True):
            score, value = bucket.pad(own_score), bucket.pad(own_value)
            if bucket.observed is not None:
                score = score.masked_fill(~bucket.observed[:, :, None, None], -torch.inf)
            weight = score.softmax(dim=1).flatten(1, 2)
            tokens.append(base_MW + weight.transpose(1, 2) @ value.flatten(1, 2))
        return tokens

    def _read(self, x_EW: Tensor, tokens_SMW: Tensor, buckets: Sequence[Bucket]) -> Tensor:
        """What each event reads from its set's tokens, [E, W]."""
        query_EHK = self.read_query(x_EW).unflatten(-1, (self.heads, -1)) * self.scale
        key_HKW = self.read_key.weight.unflatten(0, (self.heads, -1))
        query_EHW = torch.einsum("ehk,hkw->ehw", query_EHK, key_HKW)
        mixed = []
        groups = tokens_SMW.split([bucket.count for bucket in buckets])
        for bucket, tokens, own in zip(buckets, groups, cut(query_EHW, buckets), strict=True):
            query = bucket.pad(own).flatten(1, 2)
            read = (query @ tokens.transpose(1, 2)).softmax(dim=-1) @ tokens
            mixed.append(bucket.flat(read.unflatten(1, (bucket.width, self.heads))))
        value_HKW = self.read_value.weight.unflatten(0, (self.heads, -1))
        value = torch.einsum("ehw,hkw->ehk", torch.cat(mixed), value_HKW)
        return value.flatten(1) + self.read_value.bias


NO_SETS = Bucket(0, 0, 0, 1, None, None, None)


def cut(x: Tensor, buckets: Sequence[Bucket]) -> tuple[Tensor, ...]:
    """Events [E, ...] of some buckets cut into one piece for each: one split, whose gradient is one concatenation."""
    return x.split([bucket.stop - bucket.start for bucket in buckets])


class AttentionPool(nn.Module):
    """One vector per segment: heads of a learned query over its members (pooling by multihead attention).

    Weights of a segment sum to 1, so values are projected after the sum, once a segment: sum_n a_n (V x_n + b) = V (sum_n a_n x_n) + b.
    Sums are in fp32: added one by one in bf16, a thousand weights of a thousandth make a half.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, heads, bias=False)
        self.value = nn.Linear(width, width)
        self.heads = heads

    def forward(self, x_NW: Tensor, segment_N: Tensor, segments: int) -> Tensor:
        """Members [N, W] with segment ids [N] to [segments, W]."""
        normed = self.norm(x_NW)
        weight_NH = segment_softmax(self.score(normed).float(), segment_N, segments)
        mean_SHW = segment_sum(normed.float(), weight_NH, segment_N, segments)
        value_HKW = self.value.weight.unflatten(0, (self.heads, -1))
        return torch.einsum("shw,hkw->shk", mean_SHW, value_HKW).flatten(1) + self.value.bias


class TimeEncoding(nn.Module):
    """Continuous time: sines and cosines of minutes since admission, with learned frequencies, and the gap before a set."""

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(10.0), math.log10(20_000.0), frequencies)
        self.frequency = nn.Parameter((2 * math.pi / periods).log())
        self.mix = nn.Linear(2 * frequencies + 2, width)

    def forward(self, minute_S: Tensor, gap_S: Tensor) -> Tensor:
        """Minutes [S] and gaps in minutes [S] to [S, W]."""
        phase = minute_S[:, None] * self.frequency.exp()
        slow = torch.stack([minute_S, gap_S], dim=-1).clamp(min=0).log1p() / 8
        return self.mix(torch.cat([phase.sin(), phase.cos(), slow], dim=-1))


class CausalBlock(nn.Module):
    """A transformer layer over the sets of each stay; a set sees itself and what came before."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ffn = FeedForward(width, dropout=dropout)

    def forward(self, x_SW: Tensor, batch: Batch) -> Tensor:
        """[S, W] to [S, W]. Padding lies after each stay's end, so the causal mask hides it as well."""
        qkv = batch.pad_sets(self.qkv(self.norm(x_SW)))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed = batch.flat_sets(mixed.transpose(1, 2).flatten(2))
        return self.ffn(x_SW + F.dropout(self.out(mixed), self.dropout, self.training))


ATTENTION_BLOCKS = (FullSetBlock, InducedSetBlock, CausalBlock)
"""What most weights and most of the arithmetic lie in: recomputed, or gathered from shards, one at a time."""
