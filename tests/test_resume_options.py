"""Going on with other options, with every kind of checkpoint, and from stage to stage."""

import shutil
from pathlib import Path

import pytest
import torch

from backend.checkpoints import load_checkpoint, sha256_of
from backend.lit import SeqSetVAEModule
from backend.plan import Plan, Position
from backend.saving import Saving
from shared.configuring import build_config
from shared.layout import SNAPSHOT_KINDS, RunLayout
from shared.reader import read_record
from shared.schema import CheckpointSidecar
from shared.writer import write_record
from tests.killed_runs import TOTAL, before, copied, undisturbed
from tests.tiny_runs import (
    assert_same_run,
    evaluations,
    go_on,
    info,
    metrics,
    newest,
    rows,
    start,
    stays,
    weights,
)  # fmt: skip

__all__ = ["stays", "undisturbed"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["best_*", "last", "final_*"])
def test_resume_of_each_kind_of_checkpoint(undisturbed, tmp_path, kind):
    run = RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))
    path = min(run.checkpoints.glob(f"{kind}.ckpt"))
    step = load_checkpoint(path)["global_step"]
    assert go_on(path) == 0
    assert_same_run(run, undisturbed[0])
    assert (run.checkpoints / "discarded" / "final_step-000000017.ckpt").exists() is (step < TOTAL)


def test_what_an_earlier_checkpoint_cuts_off_is_put_away(undisturbed, tmp_path):
    run = RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))
    path = min(run.checkpoints.glob("best_*.ckpt"))
    step = load_checkpoint(path)["global_step"]
    before_it, snapshots = metrics(run), {made for made, _ in run.snapshots("latents") if made > step}
    assert 0 < step < TOTAL and snapshots
    assert go_on(path, max_steps=step + 1) == 0
    put_away = RunLayout(run.discarded)
    assert metrics(put_away) == before_it[step:]
    assert {row["step"] for row in rows(put_away.evaluations)} <= set(range(step + 1, TOTAL + 1))
    assert rows(put_away.events)
    for kind in SNAPSHOT_KINDS:
        assert {made for made, _ in put_away.snapshots(kind)} == snapshots


def test_a_sidecar_of_a_checkpoint_that_never_came_is_mended(undisturbed, tmp_path):
    """Killed between the sidecar and the renaming: it describes step 99, the file is of the last step."""
    run = RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))
    (final,) = run.checkpoints.glob("final_*.ckpt")
    wrong = read_record(final.with_suffix(".json"), CheckpointSidecar)
    wrong.step, wrong.sha256 = 99, "0" * 64
    write_record(final.with_suffix(".json"), wrong)
    others = {p.name: p.read_bytes() for p in run.checkpoints.glob("best_*.json")}
    assert go_on(run.root, max_epochs=4, max_steps=TOTAL + 1) == 0
    mended = read_record(final.with_suffix(".json"), CheckpointSidecar)
    assert (mended.step, mended.sha256, mended.bytes) == (TOTAL, sha256_of(final), final.stat().st_size)
    assert others == {p.name: p.read_bytes() for p in run.checkpoints.glob("best_*.json") if p.name in others}


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


def test_early_stopping_is_not_forgotten(stays, tmp_path, monkeypatch):
    original = SeqSetVAEModule.close_validation

    def never_better(self):
        original(self)
        self.validation["auroc"] = 0.5

    monkeypatch.setattr(SeqSetVAEModule, "close_validation", never_better)
    run = start(stays, tmp_path / "a", early_stopping_patience=2)
    last = metrics(run)[-1]["step"]
    assert last == 6, "the first validation is the best, two more are waited for"
    image = RunLayout(tmp_path / "image")
    with monkeypatch.context() as patch:
        before(Saving, "finish", lambda: shutil.copytree(newest(tmp_path / "b").root, image.root), patch)
        start(stays, tmp_path / "b", early_stopping_patience=2, checkpoint_every_n_steps=1)
    assert go_on(image.root) == 0
    assert metrics(image)[-1]["step"] == last
    assert go_on(image.root, early_stopping_patience=50) == 0
    assert metrics(image)[-1]["step"] == TOTAL
