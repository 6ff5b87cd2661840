"""Snapshots and pictures of long runs, and a probe where validation is small."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from backend.batches import StayDataset
from backend.plots import four_panels
from backend.probe_sample import choose
from backend.snapshots import ProbeResult, write_snapshots
from backend.store import PreparedDataset
from shared.configuring import build_config
from shared.layout import RunLayout
from shared.reader import JsonlTail
from shared.writer import encode_line
from tests.test_recorder import recorder_in
from tests.tiny_runs import evaluations, start, stays

__all__ = ["stays"]
KINDS = ("posterior", "latents", "reconstruction")


def test_snapshots_of_a_long_run_are_thinned_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("backend.snapshots.MOST_SNAPSHOTS", 40)
    recorder = recorder_in(tmp_path)
    frame = pd.DataFrame({"a": [1]})
    for step in range(1, 201):
        write_snapshots(recorder, step, ProbeResult({}, frame, frame, frame))
    kept = [[step for step, _ in recorder.layout.snapshots(kind)] for kind in KINDS]
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 40
    assert kept[0][0] == 1 and kept[0][-1] == 200
    assert np.diff(kept[0]).max() <= 10, "two hundred on forty"


def test_snapshots_carry_the_schema_version(tmp_path):
    recorder = recorder_in(tmp_path)
    frame = pd.DataFrame({"a": [1], "b": [[1.0, 2.0]], "c": pd.Categorical(["x"])})
    write_snapshots(recorder, 5, ProbeResult({}, frame, frame, frame))
    for kind in KINDS:
        ((_, path),) = recorder.layout.snapshots(kind)
        assert pq.read_schema(path).metadata[b"schema_version"] == b"1"
        assert pd.read_parquet(path)["c"].tolist() == ["x"]


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
@pytest.mark.parametrize("lines", [1, 3, 49, 50, 80])
def test_the_tail_of_a_log(tmp_path, monkeypatch, block, lines):
    monkeypatch.setattr("shared.lines.BLOCK_BYTES", block)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(encode_line(step, {"loss": 0.5}) for step in range(1, 51)))
    tail = JsonlTail.of_last(path, lines)
    assert [row["step"] for row in tail.read()] == list(range(1, 51))[-lines:]
    with path.open("ab") as file:
        file.write(encode_line(51, {}))
    assert [row["step"] for row in tail.read()] == [51] and not tail.restarted
    assert JsonlTail.of_last(tmp_path / "none.jsonl", 3).read() == []


def test_a_picture_reads_only_what_it_draws(tmp_path, monkeypatch):
    monkeypatch.setattr("backend.plots.LAST_POINTS", 10)
    run = RunLayout(tmp_path)
    run.metrics.write_bytes(b"".join(encode_line(step, {"kl": 1.0}) for step in range(1, 1001)))
    read, original = [], JsonlTail.read_bytes

    def counted(self, limit=None):
        data = original(self, limit)
        read.append(len(data))
        return data

    monkeypatch.setattr(JsonlTail, "read_bytes", counted)
    four_panels(run, tmp_path / "picture.png")
    assert max(read) < 500


def test_a_small_validation_split_is_topped_up_from_training(stays, tmp_path):
    run = start(stays, tmp_path, max_steps=8)
    for row in evaluations(run, "probe"):
        assert row["patients"] == 32 and row["probe_from_train"] == 32 - len(PreparedDataset.open(stays).split_indices("valid"))


def test_a_probe_is_never_larger_than_asked_for_and_never_topped_up_without_need(stays):
    data = PreparedDataset.open(stays)
    valid, train = (StayDataset(data, split, build_config({}).data) for split in ("valid", "train"))
    small = choose(valid, patients=4, seed=0)
    assert (small.patients, small.from_train) == (4, 0)
    large = choose(train, patients=36, seed=0)
    assert (large.patients, large.from_train) == (36, 0)
    topped = choose(valid, patients=99, seed=0)
    rows = np.concatenate([batch.row.numpy() for batch in topped.whole + topped.thinned])
    assert len(rows) == len(set(rows)) == 32 and set(valid.rows) <= set(rows)
