"""Batches: collated as a plain loop would, every event in one bucket once, one stream that a resume can enter anywhere."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.batches import Batch, StayDataset, StaySampler, bucket_width, fixed_batches, loader
from backend.store import PreparedDataset
from shared.config import DataConfig
from shared.errors import InputError
from tests.cohort import batch_of, cohort


def naive_stays(data: PreparedDataset, limit: int | None) -> list[list[tuple[float, list[tuple[int, float]]]]]:
    """Per stay, its sets: (minute, [(variable, standardised value)]), the most recent `limit` of them."""
    stays = []
    for row in data.stays.itertuples():
        sets = []
        for k in range(row.set_start, row.set_start + row.set_count):
            events = []
            for e in range(data.set_start[k], data.set_start[k + 1]):
                info = data.info.variables[data.event_variable[e]]
                raw = min(max(float(data.event_value[e]), info.low), info.high)
                events.append((int(data.event_variable[e]), 0.0 if info.constant else (raw - info.mean) / info.std))
            sets.append((float(data.set_minute[k]), events))
        stays.append(sets[-limit:] if limit else sets)
    return stays


def batch_as_lists(batch: Batch) -> list[list[tuple[float, list[tuple[int, float]]]]]:
    stays: list[list[tuple[float, list[tuple[int, float]]]]] = [[] for _ in range(batch.stays)]
    for s in range(batch.sets):
        own = (batch.set_of_event == s).nonzero().flatten().tolist()
        events = [(int(batch.variable[e]), float(batch.value[e])) for e in own]
        stays[int(batch.stay_of_set[s])].append((float(batch.minute[s]), events))
    return stays


@pytest.mark.parametrize("limit", [None, 4, 1, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_collated_as_a_plain_loop_would(seed, limit):
    data = cohort(stays=8, seed=seed, largest=30)
    got = batch_as_lists(batch_of(data, max_sequence_length=limit))
    expected = naive_stays(data, limit)
    assert [len(sets) for sets in got] == [len(sets) for sets in expected]
    for ours, theirs in zip(chain(*got), chain(*expected), strict=True):
        assert ours[0] == theirs[0]
        assert [v for v, _ in ours[1]] == [v for v, _ in theirs[1]]
        np.testing.assert_allclose([x for _, x in ours[1]], [x for _, x in theirs[1]], rtol=1e-5, atol=1e-6)


def test_gaps_positions_and_rows():
    data = cohort(stays=6, seed=1)
    batch = batch_of(data, [4, 0, 2])
    assert batch.row.tolist() == [4, 0, 2]
    torch.testing.assert_close(
        batch.label, torch.tensor(data.stays["in_hospital_mortality"].to_numpy(np.float32)[[4, 0, 2]]), equal_nan=True
    )
    for stay in range(3):
        own = batch.stay_of_set == stay
        minutes = batch.minute[own]
        assert batch.position_of_set[own].tolist() == list(range(int(own.sum())))
        assert batch.gap[own].tolist() == [0.0, *(minutes[1:] - minutes[:-1]).tolist()]
        assert batch.set_row[own].tolist() == list(
            range(*(int(data.stays["set_start"][batch.row[stay].item()]) + x for x in (0, int(own.sum()))))
        )


def test_truncation_keeps_the_most_recent_sets():
    data = cohort(stays=6, seed=2)
    whole, cut = batch_of(data), batch_of(data, max_sequence_length=3)
    for stay in range(6):
        assert cut.minute[cut.stay_of_set == stay].tolist() == whole.minute[whole.stay_of_set == stay][-3:].tolist()
    assert (cut.gap[cut.position_of_set == 0] == 0).all()


@given(seed=st.integers(0, 200), largest=st.integers(2, 80))
def test_buckets_cover_each_event_exactly_once(seed, largest):
    batch = batch_of(cohort(stays=4, seed=seed, largest=largest))
    places, sets = [], []
    for bucket, own in zip(batch.buckets, batch.by_bucket(torch.arange(batch.events)), strict=True):
        dense = bucket.pad(own)
        assert dense.shape == (bucket.count, bucket.width)
        observed = torch.ones_like(dense, dtype=torch.bool) if bucket.observed is None else bucket.observed
        places += dense[observed].tolist()
        torch.testing.assert_close(bucket.flat(dense), torch.arange(bucket.start, bucket.stop))
        owner = batch.set_of_event[dense]
        for row, mask in zip(owner, observed, strict=True):
            assert row[mask].unique().numel() == 1, "a row of a bucket is one set"
            sets.append(int(row[mask][0]))
    assert sorted(places) == list(range(batch.events))
    assert sets == batch.set_order.tolist()
    assert sorted(sets) == list(range(batch.sets))


@given(st.lists(st.integers(1, 3000), min_size=1))
def test_bucket_width_wastes_at_most_a_quarter(sizes):
    width = bucket_width(np.array(sizes))
    assert (width >= sizes).all()
    assert (width <= np.array(sizes) * 1.25 + 1e-9).all() or max(sizes) < 16


def test_padding_sets_and_back():
    batch = batch_of(cohort(stays=5, seed=3))
    x = torch.randn(batch.sets, 3)
    grid = batch.pad_sets(x)
    assert grid.shape == (5, batch.padded_length, 3)
    torch.testing.assert_close(batch.flat_sets(grid), x)
    assert float(grid.abs().sum()) == pytest.approx(float(x.abs().sum()), rel=1e-5)


def sampler(rows: int = 23, size: int = 4, epochs: int = 3, seed: int = 5, **share: int) -> StaySampler:
    return StaySampler(np.arange(100, 100 + rows), size, epochs, seed, **share)


def test_each_stay_once_an_epoch_in_another_order():
    stream = list(sampler())
    assert len(stream) == len(sampler()) == 18
    epochs = [list(chain(*stream[i : i + 6])) for i in (0, 6, 12)]
    assert all(sorted(epoch) == list(range(100, 123)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert list(sampler()) == stream
    assert list(sampler(seed=6)) != stream


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 17, 18])
def test_resumed_stream_is_the_tail_of_the_whole(first):
    resumed = sampler()
    resumed.first_batch = first
    assert list(resumed) == list(sampler())[first:]


def test_more_epochs_only_add_to_the_stream():
    assert list(sampler(epochs=5))[:18] == list(sampler(epochs=3))


@pytest.mark.parametrize("world", [2, 3])
def test_devices_share_every_global_batch(world):
    shares = [list(sampler(rows=24, world_size=world, rank=rank)) for rank in range(world)]
    whole = list(sampler(rows=24, size=4 * world))
    assert [sorted(chain(*parts)) for parts in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_every_device_gets_a_batch_even_at_the_ragged_end():
    shares = [list(sampler(rows=9, size=4, epochs=1, world_size=2, rank=rank)) for rank in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    assert all(batch for share in shares for batch in share)


def test_fixed_batches_are_in_table_order():
    assert fixed_batches(np.arange(5), 2) == [[0, 1], [2, 3], [4]]


def test_loader_passes_whole_batches():
    data = cohort(stays=6)
    batches = list(loader(StayDataset(data, "train", DataConfig()), [[0, 1], [2], [5, 3]], workers=0, pin=False))
    assert [batch.row.tolist() for batch in batches] == [[0, 1], [2], [5, 3]]


def test_unknown_label_names_those_there_are():
    with pytest.raises(InputError, match=r"data\.label: 'death'.*in_hospital_mortality"):
        StayDataset(cohort(), "train", DataConfig(label="death"))


def test_batch_moves_as_a_whole():
    batch = batch_of(cohort()).to("meta")
    assert batch.variable.device.type == batch.label.device.type == "meta"
    assert all(bucket.observed is None or bucket.observed.device.type == "meta" for bucket in batch.buckets)
