"""What the reader promises: rows do not depend on when it looked, and damage costs only itself and is named."""

import itertools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.reader import JsonlTail, read_record
from shared.schema import Event, RunInfo
from shared.writer import encode_line, write_record

ROWS = st.lists(st.dictionaries(st.sampled_from(["loss", "kl", "beta", "lr"]), st.floats() | st.integers(0, 9)), max_size=20)
DAMAGED = [
    b"", b" ", b"[1]", b"5", b"null", b'"text"', b"{}", b'{"v":1}', b'{"step":1}', b'{"v":2,"step":1}', b'{"v":1,"step":"1"}',
    b'{"v":1,"step":1.0}', b'{"v":1,"step":true}', b'{"v":1,"step":null}', b'{"v":1,"step":1}{"v":1,"step":2}',
    b'{"v":1,"step":1,"loss":NaN}', b'{"v":1,"step":1}\r{"v":1,"step":2}', b'{"v":1,"step":1,"a":"\xff"}', b'{"v":1,"st',
    b'{"v":1,"step":1,"nonfinite":["\xff"]}', b'\xef\xbb\xbf{"v":1,"step":1}', b"\0" * 100,
]  # fmt: skip
"""pyarrow alone would take some of these as rows, and `null` would end the process."""
GARBAGE = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"?")).filter(lambda line: not is_row(line))


def is_row(line: bytes) -> bool:
    """Whether the line would be right, by the standard library's strict reading."""

    def refuse(_: str) -> None:
        raise ValueError("not JSON")

    try:
        row = json.loads(line.decode("utf-8"), parse_constant=refuse)
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("v") == 1 and type(row.get("step")) is int


def file_of(lines: list[bytes], folder: str) -> JsonlTail:
    path = Path(folder) / "metrics.jsonl"
    path.write_bytes(b"".join(lines))
    return JsonlTail(path)


def without_missing(row: dict[str, Any]) -> dict[str, Any]:
    """A frame cannot tell an absent value from null; both are missing."""
    return {
        name: value for name, value in row.items() if value is not None and not (isinstance(value, float) and math.isnan(value))
    }


@given(rows=ROWS, cuts=st.lists(st.integers(0, 3000), max_size=12), by_frame=st.booleans())
def test_any_split_into_appended_chunks_gives_the_same_rows(
    rows: list[dict[str, float]], cuts: list[int], by_frame: bool
) -> None:
    data = b"".join(encode_line(step, row) for step, row in enumerate(rows))
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    with tempfile.TemporaryDirectory() as folder:
        tail = file_of([], folder)
        read: list[dict[str, Any]] = []
        for begin, end in itertools.pairwise(edges):
            with tail.path.open("ab") as file:
                file.write(data[begin:end])
            read += [*tail.read_columns().rows()] if by_frame else tail.read()
        whole = JsonlTail(tail.path).read()
    assert [without_missing(row) for row in read] == [without_missing(row) for row in whole]
    assert [row["step"] for row in read] == list(range(len(rows)))
    assert tail.problems == [] and not tail.restarted


@given(
    lines=st.lists(
        GARBAGE | st.sampled_from(DAMAGED) | st.integers(0, 99).map(lambda step: encode_line(step, {"kl": 0.5})[:-1]),
        max_size=15,
    ),
    by_frame=st.booleans(),
)
def test_damaged_lines_cost_only_themselves_and_are_named(lines: list[bytes], by_frame: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tail = file_of([line + b"\n" for line in lines], folder)
        rows = [*tail.read_columns().rows()] if by_frame else tail.read()
    assert [row["step"] for row in rows] == [json.loads(line)["step"] for line in lines if is_row(line)]
    named = [int(problem.split("line ")[1].split(":")[0]) for problem in tail.problems]
    assert named == [number for number, line in enumerate(lines, start=1) if not is_row(line)]


@pytest.mark.parametrize("by_frame", [False, True], ids=["rows", "frame"])
@pytest.mark.parametrize("line", DAMAGED)
def test_each_known_damage_between_two_rows(tmp_path: Path, line: bytes, by_frame: bool) -> None:
    tail = file_of([encode_line(1, {}), line + b"\n", encode_line(2, {})], str(tmp_path))
    rows = [*tail.read_columns().rows()] if by_frame else tail.read()
    assert [row["step"] for row in rows] == [1, 2]
    assert len(tail.problems) == 1 and "line 2:" in tail.problems[0]


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["loss", "kl", "auroc"]), st.floats() | st.none()), min_size=1, max_size=20)
)
def test_frame_equals_rows(rows: list[dict[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tail = file_of([encode_line(step, row) for step, row in enumerate(rows)], folder)
        columns, plain = tail.read_columns(), JsonlTail(tail.path).read()
    assert [without_missing(row) for row in columns.rows()] == [without_missing(row) for row in plain]


def test_columns_of_events_keeps_texts_and_nested_data(tmp_path: Path) -> None:
    """A time without fractions must not turn into another type than the times beside it."""
    at = pd.Timestamp("2026-01-01T00:00:00Z").to_pydatetime()
    event = Event(step=1, kind="verdict", message="x", data={"kl": 1.0}, at=at).model_dump_json()
    other = Event(step=2, kind="error", message="y", data={"file": "z"}, at=at).model_dump_json()
    tail = file_of([event.encode() + b"\n", other.encode() + b"\n"], str(tmp_path))
    columns = tail.read_columns()
    assert columns["at"].tolist() == ["2026-01-01T00:00:00Z"] * 2
    assert columns["data"].tolist() == [{"kl": 1.0}, {"file": "z"}]


def test_line_numbers_go_on_over_calls(tmp_path: Path) -> None:
    tail = file_of([encode_line(0, {}), encode_line(1, {})], str(tmp_path))
    tail.read_columns()
    with tail.path.open("ab") as file:
        file.write(encode_line(2, {}) + b"broken\n")
    tail.read()
    assert len(tail.problems) == 1 and tail.problems[0].startswith("metrics.jsonl line 4: not JSON")


def test_unknown_schema_version_is_named(tmp_path: Path) -> None:
    tail = file_of([b'{"v":99,"step":0}\n', b'{"step":0}\n'], str(tmp_path))
    assert tail.read() == []
    assert tail.problems == [
        "metrics.jsonl line 1: schema version 99; this release reads 1",
        "metrics.jsonl line 2: schema version None; this release reads 1",
    ]


def test_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    tail = JsonlTail(tmp_path / "metrics.jsonl")
    assert tail.read() == [] and tail.read_columns().arrays == {}
    tail.path.write_bytes(encode_line(0, {}))
    assert len(tail.read()) == 1 and not tail.restarted


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    line = encode_line(0, {"loss": 1.0})
    tail = file_of([line[:10]], str(tmp_path))
    assert tail.read() == [] and tail.problems == []
    with tail.path.open("ab") as file:
        file.write(line[10:])
    assert [row["step"] for row in tail.read()] == [0]


@pytest.mark.parametrize("count", [1, 3, 9], ids=["shorter", "same length", "longer"])
@pytest.mark.parametrize("in_place", [True, False], ids=["rewritten", "replaced"])
def test_another_file_under_the_same_name_starts_again(tmp_path: Path, in_place: bool, count: int) -> None:
    """Rewritten in place, the inode is the same, as when a file system gives a freed number out again."""
    tail = file_of([encode_line(step, {"loss": 0.5}) for step in range(3)] + [b"broken\n"], str(tmp_path))
    assert len(tail.read()) == 3 and len(tail.problems) == 1
    new = b"".join(encode_line(step, {"loss": 1.5}) for step in range(count)) + b"x" * 6 + b"\n"
    if in_place:
        tail.path.write_bytes(new)
    else:
        (tmp_path / "new").write_bytes(new)
        (tmp_path / "new").replace(tail.path)
    assert [row["step"] for row in tail.read()] == list(range(count))
    assert tail.restarted and [problem.partition(":")[0] for problem in tail.problems] == [f"metrics.jsonl line {count + 1}"]
    assert tail.read() == [] and not tail.restarted


# Records


def test_record_problems_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    cases = {
        b"{": "not valid JSON",
        b"[]": "schema_version is None",
        b'{"schema_version": 7}': "schema_version is 7; this release reads 1",
        b'{"schema_version": 1, "name": "x"}': "field config: Field required",
        b'{"schema_version": 1, "name": "x", "config": {}, "state": "paused"}': "field state",
        b'{"schema_version": 1, "name": "x", "config": {}, "created_at": "2026-01-01T00:00:00"}': "field created_at",
    }
    with pytest.raises(InputError, match="No such file"):
        read_record(path, RunInfo)
    for data, expected in cases.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match=expected) as caught:
            read_record(path, RunInfo)
        assert str(path) in str(caught.value)


def test_fields_of_a_later_minor_version_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b'{"schema_version": 1, "name": "x", "config": {}, "colour": "green"}')
    write_record(path, read_record(path, RunInfo))
    assert json.loads(path.read_bytes())["colour"] == "green"
