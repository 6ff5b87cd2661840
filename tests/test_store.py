"""The prepared folder: what is written is what is mapped, and what is not whole does not open."""

import pickle
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest

from backend.preparing import build
from backend.simulate import Simulation
from backend.store import PreparedDataset
from backend.store_writer import Chunk, NpyAppender, StoreWriter
from shared.errors import InputError


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    build(Simulation(30, seed=1), tmp_path / "out", seed=1)
    return tmp_path / "out"


def chunk(ids: list[str], names: list[str], **changes: object) -> Chunk:
    """Stays of two sets each, with one and two events."""
    stays, sets, events = len(ids), 2 * len(ids), 3 * len(ids)
    fields: dict[str, object] = {
        "stays": pd.DataFrame({"stay_id": ids, "subject_id": ids}),
        "set_count": np.full(stays, 2), "set_size": np.tile([1, 2], stays), "set_minute": np.arange(sets),
        "variable": np.arange(events) % len(names), "value": np.arange(events) / 2, "names": names,
    }  # fmt: skip
    return Chunk(**{**fields, **changes})  # type: ignore[arg-type]


def test_chunks_become_one_store_with_one_vocabulary(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer:
        writer.append(chunk(["a", "b"], ["HR", "Temp"]))
        writer.append(chunk(["c"], ["Temp", "pH"]))
    load = {name: np.load(tmp_path / f"{name}.npy") for name in ("event_variable", "event_value", "set_minute", "set_start")}
    assert writer.names == ["HR", "Temp", "pH"]
    assert load["event_variable"].tolist() == [0, 1, 0, 1, 0, 1, 1, 2, 1]
    assert load["event_variable"].dtype == np.uint16
    assert load["event_value"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 0, 0.5, 1]
    assert load["set_minute"].tolist() == [0, 1, 2, 3, 0, 1]
    assert load["set_start"].tolist() == [0, 1, 3, 4, 6, 7, 9]
    assert writer.stays()[["set_start", "set_count", "event_count"]].to_numpy().tolist() == [[0, 2, 3], [2, 2, 3], [4, 2, 3]]


@pytest.mark.parametrize(
    "changes",
    [
        {"set_count": np.array([2])},
        {"set_size": np.array([1, 2, 3])},
        {"set_minute": np.zeros(3)},
        {"set_count": np.array([4, 0])},
        {"set_size": np.array([0, 3, 1, 2])},
    ],
)
def test_a_chunk_whose_counts_disagree_is_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    with StoreWriter(tmp_path) as writer, pytest.raises(ValueError, match="set"):
        writer.append(chunk(["a", "b"], ["HR"], **changes))


def test_too_many_variables_are_refused(tmp_path: Path) -> None:
    names = [str(number) for number in range(65537)]
    with StoreWriter(tmp_path) as writer, pytest.raises(InputError, match="65,536"):
        writer.append(chunk(["a"], names))


def test_an_array_longer_than_its_first_header_loads(tmp_path: Path) -> None:
    file = NpyAppender(tmp_path / "x.npy", np.int64)
    for _ in range(3):
        file.append(np.arange(40_000))
    file.close()
    assert np.array_equal(np.load(tmp_path / "x.npy", mmap_mode="r"), np.tile(np.arange(40_000), 3))


def test_what_opens_agrees_with_its_description(prepared: Path) -> None:
    data = PreparedDataset.open(prepared)
    assert data.info.simulated
    assert "simulated" in data.info.name
    assert isinstance(data.event_value, np.memmap)
    assert len(data.event_value) == data.info.events == data.stays["event_count"].sum() == data.set_start[-1]
    assert len(data.set_minute) == data.info.sets == data.stays["set_count"].sum()
    assert np.array_equal(data.stays["set_start"], np.cumsum(data.stays["set_count"]) - data.stays["set_count"])
    rows = np.concatenate([data.split_indices(split) for split in ("train", "valid", "test")])
    assert sorted(rows) == list(range(30))
    assert len(data.split_indices("valid")) == data.info.stays["valid"]
    assert data.embeddings is None


def test_a_pickled_data_set_maps_the_files_again(prepared: Path) -> None:
    data = PreparedDataset.open(prepared)
    content = pickle.dumps(data)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert isinstance(again.event_value, np.memmap)
    assert np.array_equal(again.event_value, data.event_value)


@pytest.mark.parametrize(
    "name",
    ["dataset.json", "stays.parquet", "event_variable.npy", "event_value.npy", "set_minute.npy", "set_start.npy"],
)
def test_a_missing_or_cut_file_is_named(prepared: Path, name: str) -> None:
    content = (prepared / name).read_bytes()
    (prepared / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name):
        PreparedDataset.open(prepared)
    (prepared / name).unlink()
    with pytest.raises(InputError, match=name):
        PreparedDataset.open(prepared)


@pytest.mark.parametrize("name", ["event_variable", "event_value", "set_minute", "set_start"])
def test_an_array_of_another_length_or_type_is_named(prepared: Path, name: str) -> None:
    array = np.load(prepared / f"{name}.npy")
    np.save(prepared / f"{name}.npy", array[:-1])
    with pytest.raises(InputError, match=rf"{name}\.npy.*dataset\.json says"):
        PreparedDataset.open(prepared)
    np.save(prepared / f"{name}.npy", array.astype(np.complex64))
    with pytest.raises(InputError, match=rf"{name}\.npy.*expected"):
        PreparedDataset.open(prepared)


def test_stays_that_disagree_are_named(prepared: Path) -> None:
    stays = pd.read_parquet(prepared / "stays.parquet")
    stays.iloc[:-1].to_parquet(prepared / "stays.parquet")
    with pytest.raises(InputError, match=r"stays\.parquet"):
        PreparedDataset.open(prepared)


def test_an_unknown_version_is_named(prepared: Path) -> None:
    fields = orjson.loads((prepared / "dataset.json").read_bytes())
    (prepared / "dataset.json").write_bytes(orjson.dumps({**fields, "schema_version": 99}))
    with pytest.raises(InputError, match="schema version 99"):
        PreparedDataset.open(prepared)
    (prepared / "dataset.json").write_bytes(orjson.dumps({**fields, "events": "many"}))
    with pytest.raises(InputError, match="events"):
        PreparedDataset.open(prepared)


def test_other_folders_do_not_open(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        PreparedDataset.open(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no dataset\.json.*prepare"):
        PreparedDataset.open(tmp_path)
