"""Batches of about N events: each stay once an epoch, none over N, one stream for resumes and ranks, an unbiased loss."""

from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.batches import StayDataset, loader
from backend.build import build_module
from backend.callbacks import mean_over_batches
from backend.lit import SeqSetVAEModule
from backend.plan import Plan, Position
from backend.rehearsal import first_batches
from backend.token_batches import Packing, TokenSampler, WeightedStays, events_of, packing_of, stream
from shared.config import DataConfig
from shared.configuring import build_config
from shared.errors import InputError
from tests.cohort import cohort
from tests.tiny_runs import TINY, go_on, info, metrics, start, stays

__all__ = ["stays"]
DETERMINISTIC = {"dropout": 0.0, "free_bits": 0.0, "batch_events": 60}


def packing(events: list[int], budget: int, seed: int = 3, world_size: int = 1) -> Packing:
    return Packing(np.arange(1000, 1000 + len(events)), np.array(events), budget, seed, world_size)


def long_tailed(stays: int, seed: int = 0) -> list[int]:
    return (1 + np.random.default_rng(seed).lognormal(4, 0.7, stays)).astype(int).tolist()


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.integers(1, 300), min_size=1, max_size=80), budget=st.integers(1, 900), epoch=st.integers(0, 40), seed=st.integers(0, 9)
)  # fmt: skip
def test_every_stay_once_and_no_batch_over_the_budget(events, budget, epoch, seed):
    made = packing(events, budget, seed)
    batches = made.epoch(epoch)
    assert sorted(chain(*batches)) == made.rows.tolist()
    assert len(batches) == made.batches
    for rows in batches:
        assert len(rows) == 1 or sum(events[row - 1000] for row in rows) <= budget


def test_batches_are_full_and_of_like_length():
    events = long_tailed(4000)
    made = packing(events, 2000)
    batches = [np.array([events[row - 1000] for row in rows]) for rows in made.epoch(5)]
    assert made.batches <= 1.06 * sum(events) / 2000, "few events short of the budget"
    padded = sum(len(own) * own.max() for own in batches)
    assert padded < 1.25 * sum(events), "sorted by length: shuffled alone these pad to over 3 times the events"


def test_epochs_differ_and_depend_on_the_seed_alone():
    events = long_tailed(300)
    epochs = [[rows.tolist() for rows in packing(events, 800).epoch(e)] for e in (0, 1)]
    assert epochs[0] != epochs[1]
    assert epochs[0] == [rows.tolist() for rows in packing(events, 800).epoch(0)]
    assert epochs[0] != [rows.tolist() for rows in packing(events, 800, seed=4).epoch(0)]
    longest = [max(events[row - 1000] for row in rows) for rows in epochs[0]]
    assert longest != sorted(longest), "training does not go from short stays to long ones"


@pytest.mark.parametrize("first", [0, 1, 17])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_resumed_stream_is_the_tail_and_ranks_share_it(first, world):
    made = packing(long_tailed(200), 900, world_size=world)
    whole = [[rows.tolist() for rows in made.epoch(e)] for e in range(3)]
    for rank in range(world):
        resumed = TokenSampler(made, 3, rank, world)
        assert len(resumed) == 3 * made.batches // world
        resumed.first_batch = first
        assert list(resumed) == list(chain(*whole))[rank::world][first:]


def test_too_few_stays_for_the_processes_are_refused():
    with pytest.raises(InputError, match=r"data\.batch_events: 5 events hold one stay.*2 processes; raise it"):
        packing([9, 9, 9], 5, world_size=2)


def test_events_are_those_of_the_sets_that_are_kept():
    data = cohort(stays=12, seed=4)
    dataset = StayDataset(data, "train", DataConfig(max_sequence_length=3))
    assert events_of(dataset).tolist() == [dataset[[row]].events for row in dataset.rows]


@pytest.mark.parametrize("options", [{}, {"loss_weighting": "dynamic"}, {"stage": "finetune"}, {"stage": "pretrain"}])
def test_weighted_gradients_of_an_epoch_are_the_gradient_of_its_mean(options, monkeypatch):
    """In float64, where nothing but the weights could make a difference. Without them it is one of over 10 %."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    data = cohort(stays=40, seed=2)
    config = build_config({**TINY, **DETERMINISTIC, **options})
    module = build_module(config, data, 1).double()
    dataset, sampler = stream(StayDataset(data, "train", config.data), config, 1)
    assert isinstance(dataset, WeightedStays)
    batches = [dataset[rows] for rows in sampler]
    whole = gradient(module, [dataset.stays[dataset.stays.rows.tolist()]])
    assert len(batches) > 8
    assert_close(gradient(module, batches), whole)
    with pytest.raises(AssertionError):
        assert_close(gradient(module, [dataset.stays[rows] for rows in sampler]), whole, rtol=0.01)


def gradient(module, batches):
    """Of the mean of the batches' losses."""
    module.zero_grad()
    for own in batches:
        batch = own._map(lambda x: x.double() if x.is_floating_point() else x)
        loss, *_ = module.objective(batch, module.net.encode(batch, sample=False))
        (loss / len(batches)).backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", [{}, {"loss_weighting": "dynamic"}, {"stage": "finetune"}, {"stage": "pretrain"}])
def test_accumulated_batches_are_logged_as_the_one_batch_that_they_are(options):
    data = cohort(stays=40, seed=2)
    config = build_config({**TINY, **DETERMINISTIC, **options})
    module = build_module(config, data, 1).eval()
    dataset, sampler = stream(StayDataset(data, "train", config.data), config, 1)
    batches = [dataset[rows] for rows in islice(sampler, 4)]
    *parts, whole = (values(module, own) for own in [*batches, dataset.stays[torch.cat([b.row for b in batches]).tolist()]])
    shares = [(own.share_of_sets, own.share_of_labels) for own in batches]
    torch.testing.assert_close(mean_over_batches(module.scalars, parts, shares), whole, rtol=2e-5, atol=1e-5)
    assert (torch.stack(parts).mean(dim=0) - whole)[0].abs() > 1e-3, "an unweighted mean is another"


def test_the_log_of_a_step_weighs_its_batches(stays, tmp_path, monkeypatch):
    seen, original = [], SeqSetVAEModule.training_step

    def training_step(self, batch, index):
        found = original(self, batch, index)
        seen.append((float(found["parts"][self.scalars.index("recon")]), batch.sets))
        return found

    monkeypatch.setattr(SeqSetVAEModule, "training_step", training_step)
    (row,) = metrics(start(stays, tmp_path, batch_events=2500, gradient_accumulation_steps=3, max_steps=1))
    recon, sets = zip(*seen, strict=True)
    assert len(seen) == 3 and len(set(sets)) > 1
    assert row["recon"] == pytest.approx(np.average(recon, weights=sets), rel=1e-5)


def test_a_step_without_a_label_has_a_prediction_loss_of_zero():
    names = ("loss", "recon", "prediction", "weight_prediction")
    parts = [torch.tensor([2.0, 2.0, 0.0, 1.0]), torch.tensor([4.0, 4.0, 0.0, 1.0])]
    assert mean_over_batches(names, parts, [(1.5, 0.0), (0.5, 0.0)]).tolist() == [2.5, 2.5, 0.0, 1.0]


def values(module, batch):
    with torch.no_grad():
        return module.objective(batch, module.net.encode(batch, sample=False))[1]


def assert_close(ours, theirs, rtol=1e-5):
    assert set(ours) == set(theirs) != set()
    scale = max(g.abs().max() for g in theirs.values())
    for name in theirs:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=rtol, atol=1e-12 * float(scale), msg=lambda text, n=name: f"{n}: {text}"
        )


def test_batches_of_fixed_stays_have_no_weight():
    config = build_config({**TINY, "batch_events": None})
    dataset = StayDataset(cohort(), "train", config.data)
    assert packing_of(dataset, config) is None
    assert (dataset[[0, 1]].share_of_sets, dataset[[0, 1]].share_of_labels) == (1.0, 1.0)


def test_plan_knows_the_batches_of_an_epoch():
    data = cohort(stays=40, seed=2)
    config = build_config({**TINY, "batch_events": 150, "gradient_accumulation_steps": 1})
    dataset = StayDataset(data, "train", config.data)
    plan, made = Plan.of(config, dataset, "cpu"), packing_of(dataset, config)
    assert plan.batches_per_epoch == made.batches == len(made.epoch(2))
    assert plan.total_steps == 3 * made.batches and plan.epoch_at(2 * made.batches) == 2.0
    halfway = Position(20, 40, 4, None, 10)
    assert halfway.batches_in(10, None, 40) == 40, "cut alike: the same place"
    assert halfway.batches_in(25, 150, 40) == 100
    assert Position(20, 45, 4, 300, 10).batches_in(25, 150, 40) == 100 + 13


@pytest.mark.slow
def test_a_run_is_fed_so_and_resumes_where_it_stopped(stays, tmp_path):
    options = {"batch_events": 2500, "max_epochs": 2, "gradient_accumulation_steps": 1, "batch_size": 1}
    whole = start(stays, tmp_path / "whole", **options)
    steps = metrics(whole)
    assert steps[-1]["epoch"] == 2.0 and len(steps) == 2 * round(1 / steps[0]["epoch"])
    assert len({row["stays"] for row in steps}) > 1
    assert sum(row["stays"] for row in steps) == 2 * info(whole).dataset.stays["train"]
    part = start(stays, tmp_path / "part", **options, max_steps=5)
    assert go_on(part.root, max_steps=None) == 0
    # The end of the short run has a validation of the whole split more; its learning rate was planned for five steps.
    assert [(row["step"], row["stays"], row["epoch"]) for row in metrics(part)] == [
        (row["step"], row["stays"], row["epoch"]) for row in steps
    ]


def test_preflight_begins_with_the_fullest_batch_there_can_be():
    data = cohort(stays=40, seed=2)
    config = build_config({**TINY, "batch_events": 150, "gradient_accumulation_steps": 1})
    dataset = StayDataset(data, "train", config.data)
    largest, *rest = first_batches(dataset, Plan.of(config, dataset, "cpu"), config)
    events = np.sort(events_of(dataset))[::-1]
    assert dataset[largest].events == events[: len(largest)].sum() <= 150 < events[: len(largest) + 1].sum()
    assert rest == list(islice(stream(dataset, config, 99)[1], len(rest)))


def test_weights_come_through_a_loader_process():
    data = cohort(stays=40, seed=2)
    config = build_config({**TINY, "batch_events": 150})
    dataset, order = stream(StayDataset(data, "train", config.data), config, 1)
    shares = [[(b.share_of_sets, b.share_of_labels) for b in loader(dataset, order, workers, False)] for workers in (0, 1)]
    assert shares[0] == shares[1] and len(set(shares[0])) > 3
    assert np.mean(shares[0], axis=0) == pytest.approx([1.0, 1.0])
