"""A run that is stopped anywhere and resumed is the run that was never stopped: every step, validation and weight.

`kill -9` leaves the run folder as it is at that moment. So one undisturbed run, with the folder copied at many moments, gives
as many killed runs; tests/benchmarks/kill_resume.py does it with real processes and real signals.
"""

import signal

import pytest

from backend.callbacks import StepSeed
from backend.checkpoints import AtomicCheckpointIO, load_checkpoint
from backend.lit import SeqSetVAEModule
from backend.recorder import RunRecorder
from backend.resume import open_resume
from shared.errors import InputError
from tests.killed_runs import TOTAL, copied, signalled, undisturbed
from tests.tiny_runs import (
    assert_same_run,
    attempt,
    evaluations,
    events,
    go_on,
    info,
    metrics,
    newest,
    stays,
)  # fmt: skip

__all__ = ["stays", "undisturbed"]


def test_the_whole_run(undisturbed):
    run, images = undisturbed
    assert [row["step"] for row in metrics(run)] == list(range(1, TOTAL + 1))
    assert [row["step"] for row in evaluations(run, "validation")] == [2, 4, 6, 8, 10, 12, 14, 16, 17]
    assert len(list(images.iterdir())) > 80


MOMENTS = ["00-batch", "00-saving", "01-batch", "02-validating", "02-evaluated", "03-saving", "04-describing", "07-batch-2",
           "10-best", "12-saving", "16-validating", "17-finishing", "17-validating", "17-evaluated", "17-describing",
           "17-describing-2", "17-ending"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment_and_resumed(undisturbed, tmp_path, moment):
    run, images = undisturbed
    killed = copied(images, moment, tmp_path)
    assert go_on(killed.root) == 0
    assert_same_run(killed, run)


def test_torn_files_of_a_kill_are_mended(undisturbed, tmp_path):
    run, images = undisturbed
    killed = copied(images, "09-saving", tmp_path)
    with killed.metrics.open("ab") as file:
        file.write(b'{"v":1,"step":10,"los')
    (killed.checkpoints / "last.ckpt.tmp").write_bytes(b"half")
    (killed.root / ".run.json.1.2.tmp").write_bytes(b"{")
    (killed.checkpoints / "best_step-000000099_auroc-1.0000.json").write_text("{}")
    assert go_on(killed.root) == 0
    assert_same_run(killed, run)


@pytest.mark.parametrize(
    ("owner", "name", "at", "number", "step"),
    [
        (StepSeed, "on_train_batch_start", 10, signal.SIGINT, 5),
        (SeqSetVAEModule, "validation_step", 3, signal.SIGTERM, 6),
        (AtomicCheckpointIO, "_write", 1, signal.SIGTERM, 1),
    ],
    ids=["Ctrl-C mid-accumulation", "SIGTERM while validating", "SIGTERM while saving the first"],
)
def test_interrupted_and_resumed(stays, undisturbed, tmp_path, monkeypatch, capsys, owner, name, at, number, step):
    with monkeypatch.context() as patch:
        signalled(patch, owner, name, at, number)
        assert attempt(stays, tmp_path) == 130
    run = newest(tmp_path)
    assert info(run).state == "interrupted"
    assert [row["step"] for row in metrics(run)] == list(range(1, step + 1))
    said, who = capsys.readouterr().out, "Ctrl-C" if number == signal.SIGINT else "asked to stop"
    assert f"stopped at step {step} ({who}); go on with\n" in said and f"--resume_from_checkpoint {run.root}" in said
    (kept,) = run.checkpoints.glob("interrupted_*.ckpt")
    assert load_checkpoint(kept)["global_step"] == step
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert go_on(kept) == 0
    assert_same_run(run, undisturbed[0])


def test_interrupted_three_times(stays, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signalled(patch, StepSeed, "on_train_batch_start", 5, signal.SIGINT)
        assert attempt(stays, tmp_path) == 130
    for _ in range(2):
        with monkeypatch.context() as patch:
            signalled(patch, StepSeed, "on_train_batch_start", 7, signal.SIGINT)
            assert go_on(newest(tmp_path).root) == 130
    assert go_on(newest(tmp_path).root) == 0
    assert_same_run(newest(tmp_path), undisturbed[0])
    assert [session.from_step for session in info(newest(tmp_path)).sessions] == [0, 3, 7, 11]


def test_a_second_signal_stops_at_once(stays, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signalled(patch, StepSeed, "on_train_batch_start", 9, signal.SIGINT)
        signalled(patch, SeqSetVAEModule, "training_step", 9, signal.SIGINT)
        assert attempt(stays, tmp_path) == 130
    run = newest(tmp_path)
    assert info(run).state == "interrupted"
    assert not list(run.checkpoints.glob("interrupted_*"))
    assert go_on(run.root) == 0
    assert_same_run(run, undisturbed[0])


def test_an_exception_in_a_step_is_one_clear_error_and_resumable(stays, undisturbed, tmp_path, monkeypatch, capsys):
    original = SeqSetVAEModule.training_step

    def failing(self, batch, batch_idx):
        if batch_idx == 13:
            raise RuntimeError("the graphics card fell out")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SeqSetVAEModule, "training_step", failing)
        assert attempt(stays, tmp_path) == 1
    run = newest(tmp_path)
    shown = capsys.readouterr()
    assert "error: training failed after step 6: RuntimeError: the graphics card fell out" in shown.err
    assert "Traceback (most recent" not in shown.err + shown.out
    assert "Traceback (most recent" in run.console.read_text()
    assert (info(run).state, info(run).error) == ("failed", "RuntimeError: the graphics card fell out")
    assert events(run, "error")[0]["step"] == 6
    (kept,) = run.checkpoints.glob("error_*.ckpt")
    assert load_checkpoint(kept)["global_step"] == 6
    assert go_on(kept) == 0
    assert_same_run(run, undisturbed[0])


def test_an_error_between_a_step_and_its_log_line_resumes_from_before(stays, undisturbed, tmp_path, monkeypatch):
    original = RunRecorder.commit

    def failing(self, step):
        if step == 8:
            raise RuntimeError("boom")
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "commit", failing)
        assert attempt(stays, tmp_path) == 1
    run = newest(tmp_path)
    (kept,) = run.checkpoints.glob("error_step-000000008.ckpt")
    with pytest.raises(InputError, match="middle of a step; resume the run folder"):
        open_resume(kept)
    assert go_on(run.root) == 0
    assert_same_run(run, undisturbed[0])
