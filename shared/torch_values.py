"""Norms of tensors in a checkpoint, and how far two of them are apart; read piece by piece, whatever their size and strides."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import InputError
from shared.torch_file import Named, TorchFile
from shared.torch_objects import ITEM_BYTES, Tensor

PIECE = 1 << 20
"""Values read at once: 8 MB as float64."""
MOST_REREAD = 8
SMALL_BYTES = 256 << 20
READABLE = {*ITEM_BYTES} - {"complex32", *(name for name in ITEM_BYTES if name.startswith("float8"))}
"""Kinds of number whose values can be read; the others have no counterpart in numpy."""

Block = tuple[tuple[int, int], ...]
"""Per dimension the first index and the one behind the last."""


@dataclass(frozen=True)
class Norms:
    """Size of the values of one tensor. Figures are over finite values; of complex numbers they are of their magnitudes."""

    values: int
    nans: int
    infinities: int
    zeros: int
    l2: float
    mean: float
    largest: float
    """Largest magnitude."""

    @property
    def rms(self) -> float:
        """Root mean square; NaN without a finite value."""
        finite = self.values - self.nans - self.infinities
        return self.l2 / math.sqrt(finite) if finite else math.nan

    @property
    def share_of_zeros(self) -> float:
        """From 0 to 1; NaN where there are no values."""
        return self.zeros / self.values if self.values else math.nan


@dataclass(frozen=True)
class Distance:
    """How far tensor b is from a, over the places where both are finite."""

    l2: float
    """||a - b||"""
    base: float
    """||a||"""
    largest: float
    """Largest |a - b|"""
    differing: int
    """Places with another value; two NaN count as the same."""

    @property
    def relative(self) -> float:
        """||a - b|| / ||a||; infinite where a is all zeros and b is not."""
        if self.base:
            return self.l2 / self.base
        return math.inf if self.l2 else 0.0


class SumOfSquares:
    """A Euclidean norm that neither overflows nor loses small values, as BLAS's nrm2: scaled by the largest magnitude so far."""

    def __init__(self) -> None:
        self._scale, self._sum = 0.0, 0.0

    def add(self, magnitudes: np.ndarray) -> None:
        """Add finite magnitudes."""
        top = float(magnitudes.max(initial=0.0))
        if top > self._scale:
            self._sum *= (self._scale / top) ** 2
            self._scale = top
        if self._scale:
            scaled = magnitudes / self._scale
            self._sum += float(np.dot(scaled, scaled))

    @property
    def root(self) -> float:
        """The norm."""
        return self._scale * math.sqrt(self._sum)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return self._scale


def norms(file: TorchFile, tensor: Tensor) -> Norms:
    """The size of one tensor's values.

    Raises:
        InputError: the file was cut off since it was opened.
    """
    squares, nans, infinities, zeros, total = SumOfSquares(), 0, 0, 0, 0.0
    for block in blocks(tensor.shape, [tensor.stride]):
        values = read_block(file, tensor, block)
        magnitudes = np.abs(values)
        finite = np.isfinite(magnitudes)
        if not finite.all():
            nan = int(np.isnan(magnitudes).sum())
            nans, infinities = nans + nan, infinities + int((~finite).sum()) - nan
            values, magnitudes = values[finite], magnitudes[finite]
        zeros += int((magnitudes == 0).sum())
        with np.errstate(over="ignore"):
            total += float((values if values.dtype == np.float64 else magnitudes).sum())
        squares.add(magnitudes)
    finite_values = tensor.values - nans - infinities
    mean = total / finite_values if finite_values else math.nan
    return Norms(tensor.values, nans, infinities, zeros, squares.root, mean, squares.largest)


def distance(file_a: TorchFile, a: Tensor, file_b: TorchFile, b: Tensor) -> Distance:
    """How far two tensors of one shape are apart; they may differ in kind of number and in strides.

    Raises:
        InputError: a file was cut off since it was opened.
    """
    apart, base, differing = SumOfSquares(), SumOfSquares(), 0
    for block in blocks(a.shape, [a.stride, b.stride]):
        ours, theirs = read_block(file_a, a, block), read_block(file_b, b, block)
        differing += int(((ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))).sum())
        both = np.isfinite(ours) & np.isfinite(theirs)
        ours, theirs = ours[both], theirs[both]
        base.add(np.abs(ours))
        with np.errstate(over="ignore"):  # of values near the end of float64
            gap = np.abs(ours - theirs)
        apart.add(np.minimum(gap, np.finfo(float).max))
    return Distance(apart.root, base.root, apart.largest, differing)


def readable(named: Named) -> bool:
    """Whether numpy can hold this kind of number."""
    return named.tensor.dtype in READABLE


def check_effort(file: TorchFile, tensors: Sequence[Named]) -> None:
    """Refuse tensors that overlap so much that reading them all would go over the file again and again.

    Raises:
        InputError: names the file and the extent.
    """
    wanted = sum(named.tensor.bytes for named in tensors)
    if wanted > max(MOST_REREAD * file.bytes, SMALL_BYTES):
        raise InputError(
            f"{file.path}: its tensors overlap: they show {wanted:,} bytes of a file of {file.bytes:,}; their values are not read"
        )


def blocks(shape: tuple[int, ...], strides: Sequence[tuple[int, ...]]) -> Iterator[Block]:
    """Parts of a shape, each with at most `PIECE` values that lie within `PIECE` places under each of the strides.

    A contiguous tensor comes in its own order; of a transposed one the parts are tiles.
    """
    if 0 in shape:
        return
    stack: list[Block] = [tuple((0, length) for length in shape)]
    while stack:
        block = stack.pop()
        lengths = [stop - start for start, stop in block]
        spans = [[(length - 1) * step for length, step in zip(lengths, stride, strict=True)] for stride in strides]
        widest = max((sum(span) + 1 for span in spans), default=1)
        if (math.prod(lengths) <= PIECE and widest <= PIECE) or max(lengths, default=1) == 1:
            yield block
            continue
        reach = [(max(span[axis] for span in spans), length) for axis, length in enumerate(lengths)]
        axis = max((axis for axis, length in enumerate(lengths) if length > 1), key=reach.__getitem__)
        start, stop = block[axis]
        middle = (start + stop) // 2
        stack += [(*block[:axis], half, *block[axis + 1 :]) for half in ((middle, stop), (start, middle))]


def read_block(file: TorchFile, tensor: Tensor, block: Block) -> np.ndarray:
    """The values of one block, flat, as float64 or complex128.

    Raises:
        InputError: the file was cut off since it was opened.
    """
    item = ITEM_BYTES[tensor.dtype]
    shape = tuple(stop - start for start, stop in block)
    first = tensor.offset + sum(start * step for (start, _), step in zip(block, tensor.stride, strict=True))
    span = sum((length - 1) * step for length, step in zip(shape, tensor.stride, strict=True)) + 1
    raw = file.read(tensor.storage, first * item, span * item)
    kind = np.dtype("uint16" if tensor.dtype == "bfloat16" else tensor.dtype)
    if file.big_endian:
        kind = kind.newbyteorder(">")
    strides = tuple(step * item for step in tensor.stride)
    values = np.ndarray(shape, kind, buffer=raw, strides=strides).ravel()
    if tensor.dtype == "bfloat16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
