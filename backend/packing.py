"""A batch on its way from a loader process: all its tensors in one block of shared memory.

Sent one by one, some sixty tensors of a batch cost a file descriptor and a mapping each, in the process that trains.
"""

import io
import pickle
from typing import Any

import torch
from torch import Tensor

ALIGNED = 16


class _Out(pickle.Pickler):
    """Keeps tensors aside."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []

    def persistent_id(self, obj: Any) -> int | None:
        """The number of a tensor; None for what is pickled."""
        if not isinstance(obj, Tensor):
            return None
        self.tensors.append(obj)
        return len(self.tensors) - 1


class _In(pickle.Unpickler):
    """Puts tensors back."""

    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        """The tensor with this number."""
        return self.tensors[pid]


def pack(state: Any) -> tuple[bytes, list[tuple[torch.dtype, tuple[int, ...], int]], Tensor]:
    """Anything that holds CPU tensors: the rest of it, where each tensor lies, and one block of bytes with all of them."""
    file = io.BytesIO()
    out = _Out(file)
    out.dump(state)
    layout, size = [], 0
    for x in out.tensors:
        layout.append((x.dtype, tuple(x.shape), size))
        size += -(-x.numel() * x.element_size() // ALIGNED) * ALIGNED
    block = torch.empty(size, dtype=torch.uint8)
    for x, (dtype, shape, start) in zip(out.tensors, layout, strict=True):
        _view(block, dtype, shape, start).copy_(x)
    return file.getvalue(), layout, block


def unpack(rest: bytes, layout: list[tuple[torch.dtype, tuple[int, ...], int]], block: Tensor) -> Any:
    """What was packed; its tensors are views of the block."""
    return _In(io.BytesIO(rest), [_view(block, *place) for place in layout]).load()


def _view(block: Tensor, dtype: torch.dtype, shape: tuple[int, ...], start: int) -> Tensor:
    count = 1
    for extent in shape:
        count *= extent
    return block[start : start + count * dtype.itemsize].view(dtype).view(shape)
