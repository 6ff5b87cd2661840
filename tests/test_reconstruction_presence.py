"""The presence snapshot: what the decoder expected beside what occurred, and the units that go with the events."""

import numpy as np
import pandas as pd
import pytest

from backend.batches import StayDataset
from backend.probe import StayProbe
from backend.snapshots import write_snapshots
from backend.store import PreparedDataset
from shared.config import DataConfig
from shared.layout import SNAPSHOT_KINDS
from tests.test_probe import module_of
from tests.test_recorder import recorder_in
from tests.tiny_runs import stays

__all__ = ["stays"]


@pytest.fixture(scope="module")
def data(stays) -> PreparedDataset:
    return PreparedDataset.open(stays)


def probed(data: PreparedDataset, **model):
    return StayProbe(StayDataset(data, "train", DataConfig()), patients=36)(module_of(data, **model))


def test_each_shown_set_has_its_probabilities_and_what_occurred(data, monkeypatch):
    monkeypatch.setattr("backend.probe_sample.SHOWN_SETS", 50)
    found = probed(data)
    presence, names = found.presence, found.presence.attrs["variables"]
    probability, occurred = np.stack(presence["probability"]), np.stack(presence["occurred"])
    assert probability.shape == occurred.shape == (50, len(names))
    assert probability.dtype == np.float16 and ((probability >= 0) & (probability <= 1)).all()
    told = {
        (stay, minute, names[at])
        for (stay, minute), row in zip(presence[["stay_id", "minute"]].itertuples(index=False), occurred, strict=True)
        for at in np.flatnonzero(row)
    }
    events = found.reconstruction[["stay_id", "minute", "variable"]].itertuples(index=False)
    assert told == {(stay, minute, name) for stay, minute, name in events}


def test_a_large_vocabulary_is_cut_to_what_occurs_most(data, monkeypatch):
    monkeypatch.setattr("backend.presence.MOST_VARIABLES", 3)
    found = probed(data)
    often = found.reconstruction.drop_duplicates(["stay_id", "minute", "variable"])["variable"].value_counts()
    assert set(found.presence.attrs["variables"]) == set(often.index[:3].astype(str))


def test_a_decoder_without_presence_writes_none(data, tmp_path):
    recorder, found = recorder_in(tmp_path), probed(data, decoder="chamfer")
    assert found.presence is None
    write_snapshots(recorder, 5, found)
    assert [kind for kind in SNAPSHOT_KINDS if recorder.layout.snapshots(kind)] == ["posterior", "latents", "reconstruction"]


def test_names_and_units_come_back_from_the_file(data, tmp_path):
    recorder, found = recorder_in(tmp_path), probed(data)
    write_snapshots(recorder, 5, found)
    presence = pd.read_parquet(recorder.layout.presence(5))
    assert presence.attrs["variables"] == found.presence.attrs["variables"]
    assert np.stack(presence["probability"]).tolist() == np.stack(found.presence["probability"]).tolist()
    units = pd.read_parquet(recorder.layout.reconstruction(5), columns=["variable"]).attrs["units"]
    assert units == {variable.name: variable.unit for variable in data.info.variables if variable.unit}
    assert units
