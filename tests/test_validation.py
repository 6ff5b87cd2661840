"""A validation shared by processes: the batches of each, what counts, and the noise of a batch."""

from itertools import chain

import pytest
import torch

from backend.batches import StayDataset
from backend.build import build_module
from backend.evaluation import evaluate_split
from backend.ranks import Rank
from backend.validation import Part, Scored
from shared.configuring import build_config
from tests.cohort import cohort
from tests.tiny_runs import TINY


@pytest.mark.parametrize(("count", "world"), [(0, 2), (1, 3), (5, 2), (6, 3), (7, 1)])
def test_each_batch_counts_once_and_all_make_as_many_steps(count: int, world: int) -> None:
    batches = [[number] for number in range(count)]
    parts = [Part(rank, world, count) for rank in range(world)]
    assert len({len(part.of(batches)) for part in parts}) == 1
    counted = [part.number(i) for part in parts for i in range(len(part.of(batches))) if part.counts(i)]
    assert sorted(counted) == list(range(count))
    assert all(
        part.of(batches)[i] == [part.number(i)] for part in parts for i in range(len(part.of(batches))) if part.counts(i)
    )


def test_noise_belongs_to_the_batch_and_not_to_who_draws_it() -> None:
    def drawn(part: Part, index: int) -> list[float]:
        part.draw(3, index)
        return torch.randn(4).tolist()

    alone = [drawn(Part(), i) for i in range(4)]
    assert [drawn(Part(i % 2, 2, 4), i // 2) for i in range(4)] == alone
    assert len(set(chain(*alone))) == 16


@pytest.mark.parametrize("options", [{}, {"stage": "pretrain"}, {"decoder": "chamfer"}])
def test_three_processes_have_the_scores_of_one(monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    """What each gives the others is kept until the last asks for it; batches of three stays, not as many for each process."""
    data = cohort(stays=40, seed=2)
    module = build_module(build_config({**TINY, **options}), data, 1)
    dataset = StayDataset(data, "train", module.config.data)
    alone = evaluate_split(module, dataset, 3)
    assert -(-len(dataset) // 3) % 3
    given: list[dict[int, Scored]] = []

    def gather(others: list[dict[int, Scored] | None], own: dict[int, Scored]) -> None:
        given.append(own)
        others[:] = given

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    for rank in range(3):
        shared = evaluate_split(module, dataset, 3, Rank(rank, 3))
    assert shared == alone
