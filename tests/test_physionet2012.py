"""Records of the PhysioNet 2012 challenge: every quirk of the real files, and every way they can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backend.physionet2012 import UNITS, Physionet2012
from backend.physionet_records import Record, parse_line_by_line, parse_records
from backend.preparing import build
from backend.store import PreparedDataset
from shared.errors import InputError
from tests.sources import DATA, OUTCOMES_HEADER, outcome, record, sets_of, write_challenge, write_set

REAL = DATA / "physionet2012"


def prepare(folder: Path, out: str = "out") -> PreparedDataset:
    build(Physionet2012(folder), folder.parent / out, seed=0)
    return PreparedDataset.open(folder.parent / out)


def challenge(folder: Path, records: dict[int, str], outcomes: str | None = None) -> Path:
    """Ordinary records 1 to 10, and special ones."""
    write_set(folder, {number: record(number) for number in range(1, 11)} | records)
    rows = "".join(outcome(number) for number in (*range(1, 11), *records)) if outcomes is None else outcomes
    (folder / "Outcomes-a.txt").write_text(OUTCOMES_HEADER + rows)
    return folder


def test_a_stay_as_it_is_in_its_record(tmp_path: Path) -> None:
    data = prepare(write_challenge(tmp_path / "src"))
    assert sets_of(data, "3") == [
        (0.0, [("Age", 60.0), ("Gender", 1.0)]),
        (7.0, [("HR", 73.0), ("Temp", np.float32(36.5))]),
        (90.0, [("HR", 80.0)]),
    ]
    row = data.stays.set_index("stay_id").loc["4"]
    assert (row.subject_id, row.in_hospital_mortality, row.saps_i, row.sofa, row.length_of_stay) == ("4", 1, 6, 1, 5)
    assert np.isnan(row.survival)
    assert data.info.labels == {"in_hospital_mortality": {"known": 20, "missing": 0, "positive": 5}}
    assert data.info.read["dropped: not recorded (-1)"] == {"Height": 20}
    assert data.info.variables[0].unit == "years"


def test_archives_and_folders_give_the_same(tmp_path: Path) -> None:
    prints = {
        kind: prepare(write_challenge(tmp_path / kind, range(10, 30), kind), f"out-{kind}").info.fingerprint
        for kind in ("tar.gz", "zip", "folder")
    }
    assert len(set(prints.values())) == 1, prints


def test_blocks_do_not_show_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_challenge(tmp_path / "src")
    whole = prepare(tmp_path / "src", "whole").info.fingerprint
    monkeypatch.setattr("backend.physionet2012.BLOCK_BYTES", 300)
    assert prepare(tmp_path / "src", "pieces").info.fingerprint == whole


def test_quirks_are_survived_and_counted(tmp_path: Path) -> None:
    odd = record(
        77, "00:10,,5", "00:10,DiasABP,-1", "00:10,MAP,70", "00:10,MAP,71", "00:10,Temp,-17.8", "00:12,HR,999999", "00:11,HR,1"
    )  # fmt: skip
    data = prepare(challenge(tmp_path / "src", {77: odd, 78: record(78, "00:00,Weight,80"), 79: "Time,Parameter,Value\n"}))
    assert sets_of(data, "77")[1:] == [
        (10.0, [("MAP", 70.0), ("MAP", 71.0), ("Temp", np.float32(-17.8))]),
        (11.0, [("HR", 1.0)]),
        (12.0, [("HR", 999999.0)]),
    ]
    read = data.info.read
    assert read["dropped: rows without a variable name"] == 1
    assert read["dropped: not recorded (-1)"] == {"DiasABP": 1, "Height": 12}
    assert read["dropped: records without a time series"] == ["78", "79"]
    assert read["kept: repeats of record, minute and variable"] == 1
    assert read["kept: other negative values"] == {"Temp": 1}
    assert read["kept: records sorted by time"] == 1
    assert (read["records"], len(data.stays)) == (13, 11)
    assert "DiasABP" not in [variable.name for variable in data.info.variables]


def test_a_missing_outcome_stays_missing(tmp_path: Path) -> None:
    rows = "".join(outcome(number) for number in (*range(3, 11), 500)) + outcome(1, -1)
    data = prepare(challenge(tmp_path / "src", {}, rows))
    deaths = data.stays.set_index("stay_id")["in_hospital_mortality"]
    assert deaths.index[deaths.isna()].tolist() == ["1", "2"]
    assert data.info.labels["in_hospital_mortality"] == {"known": 8, "missing": 2, "positive": 0}
    assert data.info.read["stays without an outcome row"] == 1
    assert data.info.read["outcomes without a record"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00:10,HR,high", r"77\.txt, line 6: expected a number as value of HR, got 'high'"),
        ("00:10,HR,", r"line 6: expected a number as value of HR, got ''"),
        ("00:10,HR,nan", r"line 6: expected a number"),
        ("00:10,HR,1e39", r"line 6: expected a number"),
        ("00:61,HR,80", r"line 6: expected a time as HH:MM, got '00:61'"),
        ("00:10,HR", r"line 6: expected three fields"),
        ("00:10,HR,80,bpm", r"line 6: expected three fields"),
        ("00:10,RecordID,78", r"its RecordID says 78, its name 77"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(challenge(tmp_path / "src", {77: record(77, line)}))
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_a_bad_header_or_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"77\.txt, line 1: expected the header Time,Parameter,Value"):
        prepare(challenge(tmp_path / "src", {77: "Parameter,Value\n"}))
    latin = Record("77.txt", "77", "Time,Parameter,Value\n00:00,Körper,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"77\.txt: is not text in UTF-8"):
        parse_records([latin])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (outcome(1) + outcome(2) + outcome(1), r"Outcomes-a\.txt, line 4: record 1 was already at .*line 2"),
        (outcome(1) + "2,6,1,5,-1,yes\n", r"line 3: expected a number as In-hospital_death, got 'yes'"),
        (outcome(1) + outcome(2, 3), r"line 3: expected 0, 1 or -1 as In-hospital_death"),
        (outcome(1) + "2,6\n", r"line 3: expected 6 fields, got 2"),
        (outcome(900) + outcome(901), r"none of 2 outcome rows belongs to one of 10 records"),
        ("", r"none of 0 outcome rows"),
    ],
)
def test_bad_outcomes_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(challenge(tmp_path / "src", {}, rows))


def test_absent_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no such folder; expected the one that holds set-"):
        Physionet2012(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no set-\*\.tar\.gz"):
        Physionet2012(tmp_path)
    write_set(tmp_path, {1: record(1)})
    with pytest.raises(InputError, match=r"no Outcomes-\*\.txt"):
        Physionet2012(tmp_path)
    (tmp_path / "Outcomes-a.txt").write_text("RecordID,SOFA\n1,2\n")
    with pytest.raises(InputError, match=r"Outcomes-a\.txt, line 1: no column SAPS-I"):
        Physionet2012(tmp_path)


def test_an_empty_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "src" / "set-a").mkdir(parents=True)
    (tmp_path / "src" / "Outcomes-a.txt").write_text(OUTCOMES_HEADER + outcome(1))
    with pytest.raises(InputError, match="no stay with events"):
        prepare(tmp_path / "src")


def test_a_record_or_a_set_that_comes_twice_is_named(tmp_path: Path) -> None:
    write_challenge(tmp_path / "src")
    write_set(tmp_path / "src", {20: record(20)}, name="set-b")
    with pytest.raises(InputError, match=r"set-b\.tar\.gz:set-b/20\.txt: record 20 was already in .*set-a\.tar\.gz"):
        prepare(tmp_path / "src")
    write_set(tmp_path / "src", {21: record(21)}, kind="folder", name="set-b")
    with pytest.raises(InputError, match=r"set-b and set-b\.tar\.gz are the same set"):
        prepare(tmp_path / "src")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_a_damaged_archive_is_named(tmp_path: Path, kind: str) -> None:
    write_challenge(tmp_path / "src", kind=kind)
    path = tmp_path / "src" / f"set-a.{kind}"
    path.write_bytes(path.read_bytes()[:-150])
    with pytest.raises(InputError, match=r"set-a.*cannot be read as an archive"):
        prepare(tmp_path / "src")


FIELD = st.sampled_from(["HR", " HR ", "Temp", "", " ", '"HR"', "Größe", "RecordID", "N\u00a0A", "NA", "null"])
TIME = st.sampled_from(["00:00", "00:07", "47:59", " 01:00", "1:05", "0007", "", "-1:00", "00:60", "٠١:00"])
VALUE = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True).map(str),
    st.sampled_from(["-1", "+3", " 4.5", "5.", ".5", "1e5", "1e39", "", "NA", "1_0", "0x10", "٣", "1 2", "--1", "1e"]),
)
GOOD = st.tuples(
    st.sampled_from(["00:00", "00:07", "48:00"]), st.sampled_from(["HR", "Temp", ""]), st.sampled_from(["-1", "36.6"])
)
LINE = st.one_of(
    GOOD.map(",".join), GOOD.map(",".join), GOOD.map(",".join),
    st.tuples(TIME, FIELD, VALUE).map(",".join),
    st.sampled_from(["", "  ", "00:00,HR", "00:00,HR,1,2", "00:00,H\rR,1", "\x00,HR,1"]),
)  # fmt: skip
TEXT = st.builds(
    lambda lines, ending, last: ending.join(["Time,Parameter,Value", *lines]) + ending * last,
    st.lists(LINE, max_size=8), st.sampled_from(["\n", "\n", "\r\n"]), st.booleans(),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
@example(["Time,Parameter,Value\n00:00,,\n00:00,HR,1\n"])
@example(["Time,Parameter,Value", "Time,Parameter,Value\n00:00,HR,1"])
def test_the_fast_parser_equals_the_slow_one(texts: list[str]) -> None:
    records = [Record(f"{number}.txt", str(number), text.encode()) for number, text in enumerate(texts)]
    try:
        slow = parse_line_by_line(records)
    except InputError as refusal:
        with pytest.raises(InputError) as same:
            parse_records(records)
        assert str(same.value) == str(refusal)
        return
    fast = parse_records(records)
    assert fast.names == slow.names
    assert fast.nameless == slow.nameless
    for column in ("record", "minute", "name"):
        assert np.array_equal(getattr(fast, column), getattr(slow, column)), column
    assert np.array_equal(fast.value.astype(np.float32), slow.value.astype(np.float32))


def test_ordinary_oddities_do_not_slow_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """What set-c and other systems hold is no reason to go line by line."""
    monkeypatch.setattr("backend.physionet_records.parse_line_by_line", None)
    texts = [
        record(1),
        record(2, "00:10,,", "00:10,,5", "00:10,DiasABP,-1"),
        record(3).replace("\n", "\r\n"),
        record(4).rstrip(),
    ]
    rows = parse_records([Record(f"{number}.txt", str(number), text.encode()) for number, text in enumerate(texts, start=1)])
    assert np.bincount(rows.record).tolist() == [7, 5, 7, 7]
    assert rows.nameless == 2


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    if not REAL.is_dir():
        pytest.skip("the challenge's archives are not at ../shared/data/physionet2012")
    out = tmp_path_factory.mktemp("physionet") / "out"
    build(Physionet2012(REAL), out, seed=0)
    return PreparedDataset.open(out)


def test_the_real_sets_are_read_whole(real: PreparedDataset) -> None:
    read = real.info.read
    assert (read["records"], read["rows"] - 8000, len(real.stays)) == (8000, 1_753_980 + 1_758_535, 7990)
    assert read["dropped: not recorded (-1)"] == {"Gender": 3 + 5, "Height": 1894 + 1930, "Weight": 326 + 347}
    assert read["dropped: records without a time series"][:4] == ["140501", "140936", "141264", "142731"]
    assert len(read["dropped: records without a time series"]) == 3 + 7
    assert read["kept: repeats of record, minute and variable"] == 3744 + 3961
    assert read["kept: other negative values"] == {"Temp": 24 + 17}
    assert real.info.labels["in_hospital_mortality"] == {"known": 7990, "missing": 0, "positive": 1122}
    assert {variable.name for variable in real.info.variables} == set(UNITS)
    assert [variable.name for variable in real.info.variables if variable.constant] == ["MechVent"]


def test_the_real_sets_have_the_published_shape(real: PreparedDataset) -> None:
    set_a = real.stays.iloc[: 4000 - 3]
    assert np.quantile(set_a["set_count"], [0.05, 0.5, 0.95, 1]).tolist() == pytest.approx([46, 72, 116, 203], abs=1)
    assert np.quantile(set_a["event_count"], [0.05, 0.5, 0.95]).tolist() == pytest.approx([263, 427, 656], abs=3)
    assert real.set_minute.min() == 0
    assert real.set_minute.max() == 2880
    assert sets_of(real, "132539")[1] == (
        7.0,
        [("GCS", 15.0), ("HR", 73.0), ("NIDiasABP", 65.0), ("NIMAP", np.float32(92.33)), ("NISysABP", 147.0),
         ("RespRate", 19.0), ("Temp", np.float32(35.1)), ("Urine", 900.0)],
    )  # fmt: skip
