"""A run that is stopped anywhere and resumed is the run that was never stopped: every step, validation and weight.

`kill -9` leaves the run folder as it is at that moment. So one undisturbed run, with the folder copied at many moments, gives
as many killed runs; tests/benchmarks/kill_resume.py does it with real processes and real signals.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from backend import checkpoints as checkpoints_module
from backend.callbacks import StepSeed
from backend.checkpoints import AtomicCheckpointIO, CheckpointWriter, load_checkpoint
from backend.lit import SeqSetVAEModule
from backend.plan import Plan, Position
from backend.recorder import RunRecorder
from backend.resume import open_resume
from backend.saving import Saving
from shared.config import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from tests.tiny_runs import (
    assert_same_run,
    attempt,
    evaluations,
    events,
    go_on,
    info,
    metrics,
    newest,
    prepare_cohort,
    start,
    stays,
    weights,
)  # fmt: skip

__all__ = ["stays"]
TOTAL = 17


class Camera:
    """Copies the run folder at named moments."""

    def __init__(self, runs: Path, images: Path) -> None:
        self.runs, self.images = runs, images
        self.on = False

    def __call__(self, moment: str) -> None:
        if self.on:
            step = metrics(newest(self.runs))[-1]["step"] if newest(self.runs).metrics.exists() else 0
            target = self.images / f"{step:02d}-{moment}"
            for number in range(2, 100):
                if not target.exists():
                    break
                target = self.images / f"{step:02d}-{moment}-{number}"
            shutil.copytree(newest(self.runs).root, target)


def before(owner: type, name: str, shoot: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    original = getattr(owner, name)

    def photographed(*args: object, **kwargs: object) -> object:
        shoot()
        return original(*args, **kwargs)

    patch.setattr(owner, name, photographed)


@pytest.fixture(scope="module")
def undisturbed(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunLayout, Path]]:
    """The run that nothing disturbed, and the folder of its images: what a kill would have left at each moment."""
    base = tmp_path_factory.mktemp("undisturbed")
    camera = Camera(base / "runs", base / "images")
    (base / "images").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        before(StepSeed, "on_train_batch_start", lambda: camera("batch"), patch)
        before(SeqSetVAEModule, "validation_step", lambda: camera("validating"), patch)
        before(RunRecorder, "evaluation", lambda: camera("evaluated"), patch)
        before(AtomicCheckpointIO, "_write", lambda: camera("saving"), patch)
        before(CheckpointWriter, "_describe", lambda: camera("describing"), patch)
        before(CheckpointWriter, "save_if_best", lambda: camera("best"), patch)
        before(Saving, "finish", lambda: camera("finishing"), patch)
        before(RunRecorder, "end", lambda: camera("ending"), patch)
        camera.on = True
        run = start(stays, base / "runs")
    yield run, base / "images"
    shutil.rmtree(base)


def test_the_whole_run(undisturbed):
    run, images = undisturbed
    assert [row["step"] for row in metrics(run)] == list(range(1, TOTAL + 1))
    assert [row["step"] for row in evaluations(run, "validation")] == [2, 4, 6, 8, 10, 12, 14, 16, 17]
    assert len(list(images.iterdir())) > 80


MOMENTS = ["00-batch", "00-saving", "01-batch", "02-validating", "02-evaluated", "03-saving", "04-describing", "07-batch-2",
           "10-best", "12-saving", "16-validating", "17-finishing", "17-validating", "17-evaluated", "17-describing",
           "17-describing-2", "17-ending"]  # fmt: skip


def copied(images: Path, moment: str, tmp_path: Path) -> RunLayout:
    return RunLayout(Path(shutil.copytree(images / moment, tmp_path / moment)))


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


def signalled(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, at: int, number: int) -> None:
    """Send this process a signal at the `at`-th call of a method."""
    calls = iter(range(1, 10_000))
    before(owner, name, lambda: os.kill(os.getpid(), number) if next(calls) == at else None, monkeypatch)


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
    assert f"--resume_from_checkpoint {run.root}" in capsys.readouterr().out
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["best_step-000000004*", "last", "final_*"])
def test_resume_of_each_kind_of_checkpoint(undisturbed, tmp_path, kind):
    run = RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))
    (path,) = run.checkpoints.glob(f"{kind}.ckpt")
    step = load_checkpoint(path)["global_step"]
    assert go_on(path) == 0
    assert_same_run(run, undisturbed[0])
    assert (run.checkpoints / "discarded" / "final_step-000000017.ckpt").exists() is (step < TOTAL)


def test_finished_run_with_nothing_left_says_so_and_is_not_touched(undisturbed, tmp_path, capsys):
    run = RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))
    before_it = run.run_json.read_bytes(), run.events.read_bytes()
    assert go_on(run.root) == 0
    assert "raise --max_epochs or --max_steps" in capsys.readouterr().out
    assert (run.run_json.read_bytes(), run.events.read_bytes()) == before_it


def test_finished_run_goes_on_with_more_steps_or_epochs(stays, tmp_path):
    constant = {"lr_schedule": "constant", "max_epochs": 2}
    long = start(stays, tmp_path / "long", **constant)
    short = start(stays, tmp_path / "short", **constant, max_steps=7)
    assert go_on(short.root, max_steps=None) == 0
    assert [row["step"] for row in metrics(short)] == list(range(1, 12))
    # The end of the short run adds a validation of the whole split; all else is the long run.
    assert metrics(short) == metrics(long)
    ours, theirs = load_checkpoint(short.checkpoints / "last.ckpt"), load_checkpoint(long.checkpoints / "last.ckpt")
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert go_on(short.root, max_epochs=3) == 0
    assert [row["step"] for row in metrics(short)] == list(range(1, TOTAL + 1))


def test_another_batch_size_and_learning_rate(stays, undisturbed, tmp_path, monkeypatch):
    run = copied(undisturbed[1], "07-batch", tmp_path)
    seen: list[int] = []
    original = SeqSetVAEModule.training_step

    def watched(self, batch, batch_idx):
        seen.append(batch.row.tolist())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SeqSetVAEModule, "training_step", watched)
    assert go_on(run.root, batch_size=8, learning_rate=1e-3, lr_schedule="constant") == 0
    table = metrics(run)
    assert [row["step"] for row in table] == list(range(1, len(table) + 1))
    resumed = table[6:]
    assert {row["lr"] for row in resumed} == {1e-3}
    assert resumed[0]["epoch"] > 12 / 11 - 1e-6
    assert resumed[-1]["epoch"] == 3.0
    # Resumed after step 6 = 12 batches of 4 = 4 stays into the second epoch: 8 are due with the next whole batch.
    epochs = [sorted(row for rows in part for row in rows) for part in (seen[:5], seen[5:])]
    assert len(set(epochs[0])) == len(epochs[0]) >= 42 - 8
    assert len(set(epochs[1])) == 42
    assert info(run).config["data"]["batch_size"] == 8


def test_position_in_batches_of_another_size():
    assert Position(6, 12, 4).batches_of(4, 42) == 12
    assert Position(6, 12, 4).batches_of(8, 42) == 6 + 1
    assert Position(6, 13, 4).batches_of(2, 42) == 21 + 4
    assert Position(6, 11, 4).batches_of(8, 42) == 6


@pytest.mark.parametrize("accumulation", [1, 2, 3])
@pytest.mark.parametrize("start_batch", [0, 1, 7, 10])
def test_plan_counts_what_the_loop_does(stays, accumulation, start_batch):
    from backend.batches import StayDataset
    from backend.store import PreparedDataset

    config = build_config({"batch_size": 4, "max_epochs": 1, "gradient_accumulation_steps": accumulation})
    train_set = StayDataset(PreparedDataset.open(stays), "train", config.data)
    plan = Plan.of(config, train_set, "cpu", Position(100, start_batch, 4))
    done, step = start_batch, 100
    total = plan.batches_per_epoch
    while done < total:
        done += 1
        if done % accumulation == 0 or done == total:
            step += 1
            assert plan.batches_at(step) == done
    assert plan.total_steps == step


def test_stage_by_stage(stays, tmp_path):
    """Pretraining, the sequence model from its weights with part of the encoder frozen, then the classifier alone."""
    short = {"max_steps": 3, "levels": 2}
    first = start(stays, tmp_path / "a", stage="pretrain", **short)
    second = start(stays, tmp_path / "b", init_from=str(final_of(first)), freeze_ratio=0.4, **short)
    third = start(stays, tmp_path / "c", stage="finetune", init_from=str(final_of(second)), **short)
    a, b, c = weights(first), weights(second), weights(third)
    frozen = [name for name in a if name.startswith("net.encoder.embed") or "encoder.blocks" in name]
    assert frozen and all(torch.equal(a[name], b[name]) for name in frozen)
    assert not torch.equal(a["net.encoder.posteriors.0.1.weight"], b["net.encoder.posteriors.0.1.weight"])
    moved = {name.split(".")[1] for name in c if not torch.equal(b[name], c[name])}
    assert moved == {"classifier"}
    assert info(second).parent == str(final_of(first))
    assert "auroc" not in evaluations(first, "validation")[-1]
    assert not evaluations(third, "probe")


def final_of(run: RunLayout) -> Path:
    return next(run.checkpoints.glob("final_*.ckpt"))


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


def test_early_stopping_is_not_forgotten(stays, tmp_path, monkeypatch):
    run = start(stays, tmp_path / "a", early_stopping_patience=2)
    last = metrics(run)[-1]["step"]
    assert last < TOTAL
    image = RunLayout(tmp_path / "image")
    with monkeypatch.context() as patch:
        before(Saving, "finish", lambda: shutil.copytree(newest(tmp_path / "b").root, image.root), patch)
        start(stays, tmp_path / "b", early_stopping_patience=2, checkpoint_every_n_steps=1)
    assert go_on(image.root) == 0
    assert metrics(image)[-1]["step"] == last
    assert go_on(image.root, early_stopping_patience=50) == 0
    assert metrics(image)[-1]["step"] == TOTAL


class TestRefusals:
    @pytest.fixture
    def run(self, undisturbed, tmp_path) -> RunLayout:
        return RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))

    def refused(self, target: Path, words: str, **options: object) -> None:
        with pytest.raises(InputError, match=words):
            go_on(target, **options)

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "nowhere", "no such checkpoint or run folder")

    def test_folder_without_a_run(self, tmp_path):
        self.refused(tmp_path, "not in a run folder.*--init_from")

    def test_checkpoint_outside_a_run(self, run, tmp_path):
        lonely = shutil.copy(run.checkpoints / "last.ckpt", tmp_path / "last.ckpt")
        self.refused(Path(lonely), "not in a run folder.*--init_from")

    def test_cut_off(self, run):
        path = run.checkpoints / "last.ckpt"
        path.write_bytes(path.read_bytes()[:-2000])
        self.refused(path, "last.ckpt: not a readable checkpoint")
        assert open_resume(run.root).path != path

    def test_not_a_checkpoint(self, run):
        (run.checkpoints / "last.ckpt").write_text("hello")
        self.refused(run.checkpoints / "last.ckpt", "last.ckpt: not a")

    def test_of_another_program(self, run):
        torch.save({"state_dict": {}, "global_step": 3}, run.checkpoints / "last.ckpt")
        self.refused(run.checkpoints / "last.ckpt", "not a SeqSetVAE checkpoint")

    def test_with_code_inside(self, run):
        torch.save({"seqsetvae": Camera}, run.checkpoints / "last.ckpt")
        self.refused(run.checkpoints / "last.ckpt", "holds code")

    def test_other_data(self, run, tmp_path):
        other = prepare_cohort(tmp_path / "other", seed=9)
        self.refused(run.root, "data.data_dir.*fingerprint differs", data_dir=str(other), max_epochs=9)

    def test_other_sizes(self, run):
        self.refused(run.root, "model.width: .* was trained with 16, and a resumed run cannot change it to 32", width=32)

    def test_still_running(self, run, monkeypatch):
        monkeypatch.setattr("backend.resume.read_status", busy)
        self.refused(run.root, "process 1 on elsewhere is still training this run")


def busy(layout: RunLayout) -> object:
    from shared.reader import Health, RunStatus
    from shared.schema import Heartbeat

    return RunStatus(layout, Health.RUNNING, heartbeat=Heartbeat(pid=1, host="elsewhere"))


def test_checkpoint_of_a_full_disk_leaves_the_older_one(undisturbed, tmp_path, monkeypatch):
    target = tmp_path / "checkpoints" / "last.ckpt"
    target.parent.mkdir()
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, target)
    good = target.read_bytes()

    def full(checkpoint, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(checkpoints_module.torch, "save", full)
    with pytest.raises(OSError, match="file write failed"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(3)}, target)
    assert target.read_bytes() == good
    assert [path.name for path in target.parent.iterdir()] == ["last.ckpt"]
