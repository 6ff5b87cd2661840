"""The older system's layout: its splits, its ids, its odd variables, and every way it can be wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backend.patient_ehr import PatientEhr
from backend.preparing import build
from backend.store import PreparedDataset
from shared.errors import InputError
from tests.sources import DATA, events_frame, sets_of, write_ehr

REAL = DATA / "mimic_iv_demo"
LABELS = "ts_id,in_hospital_mortality\n1,0\n2,1\n3,0\n"


def stay(heart_rate: float = 80, **columns: list[float]) -> pd.DataFrame:
    return events_frame([0, 5, 5], ["Weight", "HR", "Alarms On"], [70, heart_rate, 1], **columns)


def three(**train: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    return {"train": train or {"1.0": stay()}, "valid": {"2.0": stay(90)}, "test": {"3.0": stay(95)}}


def prepare(folder: Path, **paths: Path) -> PreparedDataset:
    build(PatientEhr(folder, **paths), folder.parent / "out", seed=0)
    return PreparedDataset.open(folder.parent / "out")


def test_splits_ids_and_labels_are_the_sources(tmp_path: Path) -> None:
    data = prepare(write_ehr(tmp_path / "src", three(), LABELS))
    assert data.stays[["stay_id", "split", "in_hospital_mortality"]].to_numpy().tolist() == [
        ["1", "train", 0.0], ["2", "valid", 1.0], ["3", "test", 0.0],
    ]  # fmt: skip
    assert data.info.stays == {"train": 1, "valid": 1, "test": 1}
    assert sets_of(data, "2") == [(0.0, [("Weight", 70.0)]), (5.0, [("HR", 90.0), ("Alarms On", 1.0)])]


def test_the_folder_itself_serves_as_well(tmp_path: Path) -> None:
    write_ehr(tmp_path / "src", three(), LABELS)
    outer = build(PatientEhr(tmp_path / "src"), tmp_path / "a", seed=0)
    inner = build(PatientEhr(tmp_path / "src" / "patient_ehr"), tmp_path / "b", seed=0)
    assert outer == inner


def test_a_set_is_a_set_index_where_there_is_one(tmp_path: Path) -> None:
    splits = three(**{"1": stay(set_index=[0, 1, 2]), "4": events_frame([9, 0, 9], ["HR", "HR", "Temp"], [1, 2, 3])})
    data = prepare(write_ehr(tmp_path / "src", splits, LABELS))
    assert [len(events) for _, events in sets_of(data, "1")] == [1, 1, 1]
    assert sets_of(data, "4") == [(0.0, [("HR", 2.0)]), (9.0, [("HR", 1.0), ("Temp", 3.0)])]
    assert data.info.read["kept: stays sorted by time"] == 1


def test_statistics_come_from_training_alone_and_odd_variables_stay(tmp_path: Path) -> None:
    train = events_frame([0, 1, 2, 3], ["HR", "HR", "Alarms On", "Once"], [60, 80, 1, 7])
    splits = three(**{"1": train}) | {"test": {"3": events_frame([0, 1], ["HR", "Only here"], [1e9, 5])}}
    stats = "variable,mean,std,count\nHR,70,10,2\nAlarms On,1,0,1\nGhost,0,,1\n"
    data = prepare(write_ehr(tmp_path / "src", splits, LABELS, stats))
    found = {variable.name: variable for variable in data.info.variables}
    assert (found["HR"].count, found["HR"].mean) == (2, pytest.approx(70))
    assert found["HR"].high <= 80
    assert found["Alarms On"].constant
    assert (found["Once"].count, found["Once"].mean, found["Once"].std, found["Once"].constant) == (1, 7, 0, True)
    assert (found["Only here"].count, found["Only here"].mean, found["Only here"].constant) == (0, None, False)
    assert data.info.read["variables missing from stats.csv"] == ["Once", "Only here", "Weight"]
    assert data.info.read["variables of stats.csv that never occur"] == ["Ghost"]


def test_rows_that_say_nothing_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = events_frame([0, 1, 2, 3, np.nan, 5], ["HR", None, " ", "HR", "HR", "HR"], [1, 2, 3, np.nan, 5, np.inf])
    splits = three(**{"1": rows, "4": events_frame([0], ["HR"], [np.nan]), "5": events_frame([], [], [])})
    data = prepare(write_ehr(tmp_path / "src", splits, LABELS))
    read = data.info.read
    assert sets_of(data, "1") == [(0.0, [("HR", 1.0)])]
    assert read["dropped: rows without a variable name"] == 2
    assert read["dropped: rows without a finite value"] == 3
    assert read["dropped: rows without a minute or set_index"] == 1
    assert read["dropped: stays without events"] == ["4", "5"]


def test_several_labels_other_outcomes_and_missing_ones(tmp_path: Path) -> None:
    labels = "ts_id,in_hospital_mortality,readmission,length_of_stay\n1.0,0,1,3.5\n2,,0,\n9,1,1,2\n"
    data = prepare(write_ehr(tmp_path / "src", three(), labels))
    assert data.info.labels == {
        "in_hospital_mortality": {"known": 1, "missing": 2, "positive": 0},
        "readmission": {"known": 2, "missing": 1, "positive": 1},
    }
    assert data.stays["length_of_stay"].fillna(-9).tolist() == [3.5, -9, -9]
    assert data.info.read["outcomes without a stay"] == 1
    assert data.info.read["stays without an outcome row"] == 1


def test_embeddings_follow_the_vocabulary(tmp_path: Path) -> None:
    folder = write_ehr(tmp_path / "src", three(), LABELS)
    (folder / "cached.csv").write_text("variable,0,1\nHR,1.5,2\nWeight,3,4\nGhost,5,6\n")
    data = prepare(folder)
    assert data.info.embedding_dim == 2
    assert data.embeddings is not None
    rows = dict(zip([variable.name for variable in data.info.variables], data.embeddings.tolist(), strict=True))
    assert rows["HR"] == [1.5, 2]
    assert rows["Weight"] == [3, 4]
    assert np.isnan(rows["Alarms On"]).all()
    assert data.info.read["variables missing from cached.csv"] == ["Alarms On"]


def test_tables_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = write_ehr(tmp_path / "src", three(), "ts_id,in_hospital_mortality\n77,1\n")
    (tmp_path / "other.csv").write_text(LABELS)
    (tmp_path / "params.csv").write_text("variable,mean,std,count\nHR,1,1,1\n")
    data = prepare(folder, label_path=tmp_path / "other.csv", params_map_path=tmp_path / "params.csv")
    assert data.info.labels["in_hospital_mortality"]["known"] == 3
    with pytest.raises(InputError, match=r"absent\.csv: no such file; expected the older system's statistics"):
        PatientEhr(folder, params_map_path=tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("ts_id,in_hospital_mortality\n1,0\n1.0,1\n", r"oc\.csv, line 3: ts_id 1 was there before"),
        (
            "ts_id,in_hospital_mortality\n\n\n1,0\n2,2\n",
            r"oc\.csv, line 5, column in_hospital_mortality: expected 0, 1 or nothing, got 2",
        ),
        ("ts_id,in_hospital_mortality\n1,0\n2,dead\n", r"oc\.csv, line 3, column in_hospital_mortality: .*'dead'"),
        ("stay,in_hospital_mortality\n1,0\n", r"oc\.csv, line 1: expected ts_id"),
        ("ts_id\n1\n", r"oc\.csv, line 1: expected ts_id and at least one outcome"),
        ("ts_id,in_hospital_mortality\n8,0\n9,0\n", r"none of the 2 ts_id in oc\.csv is one of the 3 stays, such as '1'"),
        ("", r"oc\.csv: cannot be read as a table"),
    ],
)
def test_a_bad_label_file_is_named(tmp_path: Path, labels: str, message: str) -> None:
    folder = write_ehr(tmp_path / "src", three(), labels)
    with pytest.raises(InputError, match=message):
        prepare(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"variable": ["HR"], "minute": [0]}), r"train/1\.parquet: no column 'value'"),
        (
            pd.DataFrame({"variable": ["HR"], "value": ["high"], "minute": [0]}),
            r"1\.parquet, column 'value': expected double.*high",
        ),
        (pd.DataFrame({"variable": ["HR"], "value": [1], "minute": ["noon"]}), r"1\.parquet, column 'minute': expected double"),
    ],
)
def test_a_bad_stay_is_named(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(write_ehr(tmp_path / "src", three(**{"1": frame}), LABELS))


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    folder = write_ehr(tmp_path / "src", three(), LABELS)
    (folder / "patient_ehr" / "train" / "4.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"4\.parquet: cannot be read as parquet"):
        prepare(folder)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"patient_ehr: no such folder; expected patient_ehr/ with train/"):
        PatientEhr(tmp_path)
    folder = write_ehr(tmp_path / "src", three(), LABELS)
    (folder / "patient_ehr" / "test" / "3.0.parquet").rename(folder / "patient_ehr" / "test" / "1.parquet")
    with pytest.raises(InputError, match=r"test/1\.parquet: stay 1 is also in .*train/1\.0\.parquet"):
        PatientEhr(folder)
    (folder / "patient_ehr" / "train" / "1.0.parquet").unlink()
    with pytest.raises(InputError, match=r"train: no \*\.parquet in it"):
        PatientEhr(folder)
    (folder / "oc.csv").unlink()
    with pytest.raises(InputError, match=r"train"):
        PatientEhr(folder)


def test_absent_labels_are_named(tmp_path: Path) -> None:
    folder = write_ehr(tmp_path / "src", three(), LABELS)
    (folder / "oc.csv").unlink()
    with pytest.raises(InputError, match=r"oc\.csv: no such file; expected the outcomes"):
        PatientEhr(folder)


@pytest.mark.parametrize(
    ("cached", "message"),
    [
        ("variable,0\nHR,1\nHR,2\n", r"cached\.csv, line 3: variable 'HR' was there before"),
        ("variable,0\nHR,x\n", r"cached\.csv, line 2, column 0: expected a number"),
        ("variable,0,1\nHR,1,\n", r"cached\.csv, line 2: an empty cell"),
        ("variable\nHR\n", r"cached\.csv: no embeddings in it"),
    ],
)
def test_bad_embeddings_are_named(tmp_path: Path, cached: str, message: str) -> None:
    folder = write_ehr(tmp_path / "src", three(), LABELS)
    (folder / "cached.csv").write_text(cached)
    with pytest.raises(InputError, match=message):
        PatientEhr(folder)


def test_the_real_demo_is_read_whole(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the MIMIC-IV demo is not at ../shared/data/mimic_iv_demo")
    info = build(PatientEhr(REAL), tmp_path / "out", seed=0)
    data = PreparedDataset.open(tmp_path / "out")
    assert info.stays == {"train": 102, "valid": 24, "test": 14}
    assert info.events == 286_767
    assert info.labels["in_hospital_mortality"] == {"known": 140, "missing": 0, "positive": 20}
    assert "30101877" in set(data.stays["stay_id"])
    assert (data.stays["event_count"].min(), data.stays["event_count"].max()) == (14, 15_868)
    assert info.read["variables of stats.csv that never occur"] == []
    assert len(info.read["variables missing from stats.csv"]) == sum(not variable.count for variable in info.variables)
    published = pd.read_csv(REAL / "stats.csv").set_index("variable")
    for variable in info.variables:
        if variable.count:
            assert variable.count == published.loc[variable.name, "count"], variable.name
