"""The recorder by itself: lines held back, tensors of several devices, and what is said of a failing disk."""

from pathlib import Path

import torch

from backend.checkpoints import CheckpointWriter
from backend.lit import SeqSetVAEModule
from backend.recorder import RunRecorder, pack, unpack
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import Heartbeat, RunInfo, RunState
from tests.tiny_runs import metrics, newest, start, stays

__all__ = ["stays"]


def recorder_in(folder: Path) -> RunRecorder:
    return RunRecorder(RunLayout(folder), RunInfo(name="x", config={}))


def test_staged_tensors_of_two_devices_are_kept_apart():
    staged = {"a b": torch.tensor([1.0, 2.0]), "c": torch.zeros((), device="meta"), "d": torch.tensor(3)}
    packed = pack(staged)
    assert [(names, values.device.type) for names, values in packed] == [(["a", "b", "d"], "cpu"), (["c"], "meta")]


def test_held_lines_come_back_with_their_own_values():
    lines = [pack({"a b": torch.tensor([1.0, 2.0])}), [], pack({"b": torch.tensor(3.0), "c": torch.tensor(4)})]
    assert unpack(lines) == [{"a": 1.0, "b": 2.0}, {}, {"b": 3.0, "c": 4.0}]


def test_held_lines_are_whole_after_a_flush(tmp_path, monkeypatch):
    monkeypatch.setattr(RunRecorder, "holds", lambda self, packed: True)
    recorder = recorder_in(tmp_path)
    for step in range(1, 4):
        recorder.put("loss", torch.tensor(float(step)))
        recorder.put("lr", 0.5)
        recorder.commit(step)
    assert not recorder.layout.metrics.exists()
    recorder.flush()
    assert [(row["step"], row["loss"], row["lr"]) for row in metrics(recorder.layout)] == [
        (i, float(i), 0.5) for i in (1, 2, 3)
    ]


def test_a_run_says_that_it_runs_only_once_its_heart_has_beaten(tmp_path, monkeypatch):
    recorder, beats = recorder_in(tmp_path), []
    monkeypatch.setattr(recorder, "save_info", lambda: beats.append(read_record(recorder.layout.heartbeat, Heartbeat)))
    recorder.begin(from_step=25)
    monkeypatch.undo()
    recorder.end(RunState.FINISHED)
    assert [(beat.step, beat.phase) for beat in beats] == [(25, "starting")]


def test_no_checkpoint_and_no_validation_is_ahead_of_the_log(stays, tmp_path, monkeypatch):
    """On a GPU lines wait for up to half a second; what a kill leaves must still hold every step of its checkpoints."""
    monkeypatch.setattr(RunRecorder, "holds", lambda self, packed: True)
    monkeypatch.setattr("backend.recorder.FLUSH_AFTER_S", 1e9)
    seen: list[tuple[str, int, int]] = []

    def watch(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def watched(self, *args):
            run = newest(tmp_path)
            written = metrics(run)[-1]["step"] if run.metrics.exists() else 0
            seen.append((name, args[2] if name == "_describe" else self.global_step, written))
            return original(self, *args)

        monkeypatch.setattr(owner, name, watched)

    watch(CheckpointWriter, "_describe")
    watch(SeqSetVAEModule, "validation_step")
    start(stays, tmp_path, max_steps=9, checkpoint_every_n_steps=1)
    assert {name for name, *_ in seen} == {"_describe", "validation_step"}
    assert [(name, step) for name, step, written in seen if written != step] == []
