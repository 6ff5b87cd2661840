"""Several processes train as one: the same losses, figures and log."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.batches import StayDataset
from backend.ranks import join
from backend.sharing import SharedStays
from shared.config import DataConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.torch_file import open_torch_file
from tests.cohort import cohort
from tests.ranked import assert_as_one, one, stays, train, words
from tests.tiny_runs import evaluations, events, go_on, info, metrics

__all__ = ["one", "stays"]


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(stays: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> RunLayout:
    return train(words(stays, tmp_path_factory.mktemp("two") / "runs", 2, remedy="beta_cut", strategy=request.param))


@pytest.mark.slow
def test_two_processes_train_as_one_remedies_included(one: RunLayout, two: RunLayout) -> None:
    assert len(metrics(two)) == 12
    assert {row["stays"] for row in evaluations(two, "validation")} == {70}, "each stay once"
    assert_as_one(two, one)
    assert len(list(two.root.parent.iterdir())) == 1, "one run folder"
    assert info(two).device.startswith("2 processes")
    for kind in ("remedy", "verdict", "checkpoint"):
        ours, theirs = events(two, kind), events(one, kind)
        assert [(e["step"], e["data"].keys()) for e in ours] == [(e["step"], e["data"].keys()) for e in theirs]
    assert any(e["data"]["action"] == "cut" for e in events(two, "remedy")), "the remedy has to act, or nothing is tested"
    assert described(two) == described(one)
    if info(two).config["trainer"]["strategy"] == "fsdp":
        assert go_on(two.checkpoints / MIDDLE, devices=1, batch_size=6) == 0
        assert_as_one(two, one)


MIDDLE = "earlier_step-000000006.ckpt"


def described(run: RunLayout) -> list[tuple[tuple[str, ...], tuple[int, ...], str]]:
    """Every tensor of a checkpoint, in its order, as the dashboard reads it: path, shape, kind of number."""
    with open_torch_file(run.checkpoints / MIDDLE) as file:
        return [(found.path, found.tensor.shape, found.tensor.dtype) for found in file.tensors]


JOINED = """
import backend.plan, backend.token_batches as batches, backend.training
def stream(dataset, config, epochs, rank=0):
    packing = batches.packing_of(dataset, config)
    class Joined(batches.PartSampler):
        def __iter__(self):
            return (sum(parts, []) for parts in super().__iter__())
    return batches.WeightedStays(dataset, packing.batches // 2), Joined(packing, epochs, 2)
backend.plan.world_of = batches.world_of = lambda config: 2
backend.training.stream = stream
"""
"""One process that is fed what two are: their two batches as one."""


@pytest.mark.slow
def test_batches_of_events_train_as_one_process_on_the_same(stays: Path, tmp_path: Path) -> None:
    options = {"batch_events": 1500, "max_epochs": 2}
    two = train(words(stays, tmp_path / "two", 2, **options))
    one = train(words(stays, tmp_path / "one", 1, **options), JOINED)
    assert len({row["stays"] for row in metrics(two)}) > 2, "batches of different weights, or nothing is tested"
    assert_as_one(two, one)


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ({}, {"WORLD_SIZE": "2", "RANK": "0"}, r"trainer\.devices: 1, and a launcher started 2 processes; give --devices"),
        (
            {"num_nodes": 2, "devices": 2},
            {},
            r"trainer\.num_nodes: 2 machines need a launcher; start this with torchrun or srun",
        ),
    ],
)
def test_a_wrong_number_is_named(monkeypatch: pytest.MonkeyPatch, options: dict, environment: dict, said: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        join(build_config({"accelerator": "cpu", **options}), "cpu")


@pytest.mark.parametrize("world", [2, 3])
def test_shares_know_the_whole(world: int) -> None:
    """Every set of the whole batch is somebody's, at its place; who has no stay counts for nothing."""
    stays = StayDataset(cohort(stays=7, seed=1), "train", DataConfig())
    for rows in ([4, 0, 2, 5, 6], [3]):
        whole = stays[rows]
        shares = [SharedStays(stays, rank, world)[rows] for rank in range(world)]
        found = np.full(whole.sets, -1)
        for rank, share in enumerate(shares):
            known = share.whole
            assert known is not None
            assert (known.sets, known.stays, known.labelled) == (whole.sets, len(rows), int((~whole.label.isnan()).sum()))
            assert known.stand_in == (not rows[rank::world])
            if not known.stand_in:
                found[known.place] = share.set_row
        assert found.tolist() == whole.set_row.tolist()
        assert shares[0].whole.sets_of_rank == tuple(0 if s.whole.stand_in else s.sets for s in shares)


def test_noise_is_that_of_one_process() -> None:
    stays = StayDataset(cohort(stays=7, seed=1), "train", DataConfig())
    whole = stays[[4, 0, 2]]
    torch.manual_seed(5)
    noise = torch.randn_like(torch.zeros(whole.sets, 8).chunk(2, dim=-1)[0])
    for rank in range(2):
        share = SharedStays(stays, rank, 2)[[4, 0, 2]]
        torch.manual_seed(5)
        assert torch.equal(share.whole.noise_like(torch.zeros(share.sets, 4)), noise[share.whole.place])
