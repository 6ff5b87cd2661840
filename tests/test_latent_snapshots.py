"""What a latents snapshot holds for pictures: states of the transformer, sets of a stay close enough to follow, known values."""

import numpy as np
import pandas as pd
import pytest
import torch

from backend.batches import StayDataset
from backend.probe import StayProbe
from backend.probe_observed import observed_frame
from backend.probe_sample import DECODED_STAYS, PICTURED_SETS, choose
from backend.snapshots import write_snapshots
from shared.config import DataConfig
from shared.layout import RunLayout
from tests.test_probe import module_of, recorded


class Recorder:
    """As much of one as snapshots ask for."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout

    def warn(self, message: str, kind: str) -> None:
        raise AssertionError(message)


@pytest.fixture
def data():
    return recorded(60, longest=30)


def test_states_are_those_of_the_decoded_stays(data):
    dataset, module = StayDataset(data, "train", DataConfig()), module_of(data)
    found = StayProbe(dataset, 60)(module).latents
    known = found[found["state"].notna()]
    assert known["stay_id"].nunique() == DECODED_STAYS and found["stay_id"].nunique() == 60
    assert all(len(state) == module.config.model.width for state in known["state"])
    with torch.no_grad():
        batch = choose(dataset, 60, seed=0).whole[0]
        torch.manual_seed(0)
        net = module.eval().net
        expected = net.states(net.encode(batch, sample=True).z, batch)
    rows = dict(zip(batch.set_row.tolist(), expected, strict=True))
    checked = [(state, rows[row]) for state, row in zip(known["state"], known["set_row"], strict=True) if row in rows]
    assert len(checked) > 100
    for state, own in checked:
        assert np.asarray(state, float) == pytest.approx(own.numpy(), abs=5e-3)


def test_a_model_without_sequence_has_no_states(data):
    module = module_of(data, stage="pretrain")
    assert "state" not in StayProbe(StayDataset(data, "train", DataConfig()), 60)(module).latents


def test_decoded_stays_can_be_followed(data, monkeypatch):
    monkeypatch.setattr("backend.probe_sample.SAMPLED_SETS", 120)
    monkeypatch.setattr("backend.probe_sample.PICTURED_SETS", 8 * DECODED_STAYS)
    dataset = StayDataset(data, "train", DataConfig())
    sample = choose(dataset, 60, seed=0)
    assert np.isin(sample.sets, sample.pictured).all()
    first, count = dataset.extent(np.concatenate([batch.row.numpy() for batch in sample.whole]))
    for start, n in zip(first, count, strict=True):
        own = sample.pictured[(sample.pictured >= start) & (sample.pictured < start + n)]
        assert min(n, 8) <= len(own) <= 10 and own[0] == start and own[-1] == start + n - 1
    assert len(sample.pictured) <= 120 + 8 * DECODED_STAYS < PICTURED_SETS


def test_known_values_are_the_last_ones_measured(data):
    dataset = StayDataset(data, "train", DataConfig())
    sample = choose(dataset, 40, seed=1)
    frame = observed_frame(dataset, sample.rows, sample.pictured)
    names = [v.name for v in data.info.variables]
    got = {(r.set_row, r.variable): (r.value, r.minute) for r in frame.itertuples() if not np.isnan(r.minute)}
    expected = {}
    for start, n in zip(*dataset.extent(sample.rows), strict=True):
        now: dict = {}
        for row in range(start, start + n):
            for event in range(data.set_start[row], data.set_start[row + 1]):
                now[names[data.event_variable[event]]] = (data.event_value[event], data.set_minute[row])
            if row in sample.pictured:
                expected |= {(row, name): value for name, value in now.items()}
    assert got == expected
    of_stay = frame[frame["minute"].isna()]
    assert not set(of_stay["variable"]) & {*names, dataset.config.label, "set_count"}


def test_known_values_are_written_once_and_again_for_another_sample(data, tmp_path):
    layout = RunLayout(tmp_path)
    dataset, module = StayDataset(data, "train", DataConfig()), module_of(data)
    write_snapshots(Recorder(layout), 1, StayProbe(dataset, 40)(module))
    written = layout.observed.stat().st_mtime_ns
    write_snapshots(Recorder(layout), 2, StayProbe(dataset, 40)(module))
    assert layout.observed.stat().st_mtime_ns == written and len(layout.snapshots("latents")) == 2
    assert pd.read_parquet(layout.observed).attrs["units"] == {v.name: v.unit for v in data.info.variables if v.unit}
    write_snapshots(Recorder(layout), 3, StayProbe(dataset, 50)(module))
    assert layout.observed.stat().st_mtime_ns != written
