"""Event files of other programs, with whatever a record can hold: the run is made, and what is wrong is named."""

import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from backend.__main__ import main
from backend.tensorboard_logs import LogReader, read_log
from backend.tensorboard_run import LogImport
from dashboard.runs.loading import RunLog
from shared.layout import RunLayout
from shared.reader import Health, JsonlTail, read_record, read_status
from shared.schema import RunInfo, RunState
from tests.test_tensorboard_logs import TEN, record, write_events


def event(step: int, *values: Summary.Value, wall: float = 1.7e9) -> bytes:
    return record(Event(step=step, wall_time=wall, summary=Summary(value=values)))


def simple(tag: str, value: float) -> Summary.Value:
    return Summary.Value(tag=tag, simple_value=value)


def hparams(content: bytes) -> Summary.Value:
    found = Summary.Value(tag=SESSION_START_INFO_TAG)
    found.metadata.plugin_data.content = content
    return found


def tensor(content: bytes, dtype: int = 1, sizes: tuple[int, ...] = (1,)) -> Summary.Value:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
    return Summary.Value(tag="loss", tensor=TensorProto(dtype=dtype, tensor_shape=shape, tensor_content=content))


def imported(folder: Path, *records: bytes) -> RunLayout:
    write_events(folder / "log", *records)
    assert main(["import", str(folder / "log"), "--output_dir", str(folder / "runs"), "--name", "run"]) == 0
    return RunLayout(folder / "runs/run")


@pytest.mark.parametrize("wall", [math.nan, math.inf, -math.inf, 1e300, -5.0])
def test_wall_times_that_are_none(tmp_path: Path, wall: float, capsys: pytest.CaptureFixture[str]) -> None:
    run = imported(tmp_path, *TEN, event(10, simple("kl", 1.0), wall=wall))
    assert JsonlTail(run.metrics).read()[-1]["time"] == 0.0
    assert "no time count as of 1970: 1." in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    [
        hparams(b"\xff\xff\xff"),
        tensor(b"abc"),
        tensor(b"", 99),
        tensor(b"", 20),
        tensor(b"12345678"),
        tensor(b"1234", sizes=(-1, -1)),
    ],
)
def test_a_record_that_cannot_be_read_costs_only_itself(tmp_path: Path, value: Summary.Value) -> None:
    write_events(tmp_path, *TEN, event(10, value, simple("kl", 10.0)), event(11, value))
    log = read_log(tmp_path)
    assert len(log.scalars["kl"]) == 11 and "loss" not in log.scalars
    assert log.notes == [f"Values of {value.tag!r} that cannot be read are left out: 2."]


def test_hyperparameters_of_any_kind(tmp_path: Path) -> None:
    content = HParamsPluginData()
    given = content.session_start_info.hparams
    given["layers"].list_value.CopyFrom(
        ListValue(values=[Value(number_value=64), Value(string_value="x"), Value(null_value=0)])
    )
    given["optim"].struct_value.CopyFrom(Struct(fields={"lr": Value(number_value=0.1)}))
    given["name"].string_value = "vae"
    given["gone"].null_value = 0
    run = imported(tmp_path, *TEN, event(1, hparams(content.SerializeToString())))
    expected = {"layers": [64, "x", None], "optim": {"lr": 0.1}, "name": "vae", "gone": None}
    assert read_record(run.run_json, RunInfo).config["hparams"] == expected


def test_tags_named_as_a_row_names_its_own(tmp_path: Path) -> None:
    names = ("time", "kind", "source", "nonfinite", "step", "v", "val/time")
    run = imported(tmp_path, *TEN, *(event(step, *(simple(name, 5.0) for name in names)) for step in range(10, 20)))
    row = JsonlTail(run.metrics).read()[-1]
    assert row["time"] == 1.7e9 and row["step"] == 19
    assert all(row[f"logged_{name}"] == 5.0 for name in names[:-1])
    assert "kind" not in row and RunLog(run).snapshot(1).problems == []


VALUES = st.one_of(
    st.builds(simple, st.sampled_from(["kl", "val/kl", "time", "epoch", "", "train/loss"]), st.floats(width=32)),
    st.builds(hparams, st.binary(max_size=20)),
    st.builds(tensor, st.binary(max_size=16), st.integers(0, 120), st.lists(st.integers(-2, 2), max_size=3).map(tuple)),
)
RECORDS = st.builds(
    lambda step, values, wall: event(step, *values, wall=wall),
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5), st.lists(VALUES, max_size=3), st.floats(),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(records=st.lists(RECORDS, max_size=8))
def test_whatever_a_record_holds_the_run_is_made(records: list[bytes], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("log")
    write_events(folder / "log", *TEN, *records)
    made = LogImport(LogReader(folder / "log"), RunLayout(folder / "run"))
    made.reader.read()
    made.reader.check()
    made.write(RunState.FINISHED)
    assert read_status(made.layout).health is Health.FINISHED
    assert RunLog(made.layout).snapshot(1).problems == []
