"""Batches between processes: as one block, and the same on the other side."""

import dataclasses
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.batches import Batch, StayDataset, fixed_batches, loader
from backend.packing import pack, unpack
from backend.store import PreparedDataset
from shared.configuring import build_config
from tests.cohort import batch_of, cohort
from tests.tiny_runs import stays

__all__ = ["stays"]

KINDS = (torch.float32, torch.int64, torch.bool, torch.uint8, torch.float64, torch.bfloat16)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and bool(a.equal(b) or a.isnan().any())
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))  # type: ignore[arg-type]
    return a == b


@given(shapes=st.lists(st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 4), max_size=3)), max_size=8), word=st.text())
def test_whatever_holds_tensors_comes_back_the_same(shapes: list[tuple[torch.dtype, list[int]]], word: str) -> None:
    made = [torch.randint(0, 2, shape).to(kind) for kind, shape in shapes]
    state = {
        "made": made,
        "turned": [x.T if x.ndim == 2 else x for x in made],
        "word": word,
        "none": None,
        "pair": (1, made[:1]),
    }
    rest, layout, block = pack(state)
    back = unpack(rest, layout, block)
    assert back.keys() == state.keys() and all(same(state[name], back[name]) for name in state)
    assert all(x.untyped_storage().data_ptr() == block.untyped_storage().data_ptr() for x in back["made"] if x.numel())


def test_a_batch_is_one_tensor_on_its_way() -> None:
    batch = batch_of(cohort(largest=20))
    make, arguments = batch.__reduce__()
    assert sum(isinstance(argument, torch.Tensor) for argument in arguments) == 1
    assert same(batch, make(*arguments)) and same(batch, pickle.loads(pickle.dumps(batch)))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_of_loader_processes_are_those_of_this_one(stays, workers: int) -> None:
    data = PreparedDataset.open(stays)
    dataset = StayDataset(data, "train", build_config({}).data)
    batches = fixed_batches(dataset.rows, 4)
    found: list[Batch] = list(loader(dataset, batches, workers, pin=False))
    assert len(found) == len(batches) and all(same(dataset[rows], batch) for rows, batch in zip(batches, found, strict=True))
