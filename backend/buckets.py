"""Sets of nearly one size as dense blocks: attention inside sets without a loop over sets.

Events of a batch are ordered by the size of their set, so that sets of one size lie together and attention inside sets is
a few dense products over [sets, size, width]. Only sets above 8 events are padded, by less than a quarter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def bucket_width(sizes: np.ndarray) -> np.ndarray:
    """The padded width for sets of these sizes: exact up to 8, then in steps of an eighth to a quarter."""
    step = 2 ** np.maximum(np.ceil(np.log2(np.maximum(sizes, 1))) - 3, 0).astype(np.int64)
    return -(-sizes // step) * step


@dataclass(frozen=True)
class Bucket:
    """Sets of nearly one size: events [start, stop) of the batch as a dense [count, width] block.

    `index` [count, width] points into the block's own events, `observed` [count, width] is True at real ones and `real`
    [stop - start] says where those lie in the flattened block; all three are None when every set fills the width, and the
    block is then a plain view.
    """

    start: int
    stop: int
    count: int
    width: int
    index: Tensor | None
    observed: Tensor | None
    real: Tensor | None

    def pad(self, own: Tensor) -> Tensor:
        """This bucket's events [stop - start, ...] (see `Batch.by_bucket`) to dense [count, width, ...]."""
        if self.index is not None:
            own = own[self.index.flatten()]
        return own.view(self.count, self.width, *own.shape[1:])

    def flat(self, dense: Tensor) -> Tensor:
        """Dense [count, width, ...] back to this bucket's events, padding dropped."""
        rows = dense.flatten(0, 1)
        return rows if self.real is None else rows[self.real]


def make_buckets(size: np.ndarray, width: np.ndarray) -> Iterator[Bucket]:
    """Runs of equal `width` over sets already sorted by it."""
    edges = np.flatnonzero(np.diff(width, prepend=-1))
    ends = np.cumsum(size)
    for first, last in zip(edges, [*edges[1:], len(width)], strict=True):
        own, wide = size[first:last], int(width[first])
        start = int(ends[first] - size[first])
        index = observed = real = None
        if (own != wide).any():
            place = np.arange(wide)
            mask = place < own[:, None]
            index = torch.from_numpy(np.where(mask, (np.cumsum(own) - own)[:, None] + place, 0))
            observed = torch.from_numpy(mask)
            real = torch.from_numpy(np.flatnonzero(mask))
        yield Bucket(start, int(ends[last - 1]), int(last - first), wide, index, observed, real)
