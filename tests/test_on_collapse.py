"""`--on_collapse`: what happens at the moment of an alarm, in our own training and in anybody's."""

import signal

import pytest

from backend.build import module_from_checkpoint
from backend.callbacks import StepSeed
from backend.checkpoints import load_checkpoint, read_sidecars
from backend.on_collapse import OnCollapse
from backend.store import PreparedDataset
from backend.training import EXIT_COLLAPSED
from shared.layout import CHECKPOINT_KINDS, RunLayout
from tests.killed_runs import signalled
from tests.steered_vae import fresh, train, watcher
from tests.tiny_runs import assert_same_run, attempt, events, go_on, info, metrics, newest, start, stays

__all__ = ["stays"]
COLLAPSING = {
    "beta_max": 50.0, "beta_warmup_steps": 0, "free_bits": 0.0, "sensitivity": "early", "update_frequency": 2, "max_steps": 12,
    "val_check_interval": 1.0,
}  # fmt: skip


def alarm_step(run: RunLayout) -> int:
    return next(event["step"] for event in events(run, "verdict") if event["data"]["severity"] == "alarm")


def test_stop_ends_the_run_in_a_state_that_goes_on(stays, tmp_path, capsys):
    assert attempt(stays, tmp_path, on_collapse="stop", **COLLAPSING) == EXIT_COLLAPSED == 3
    run = newest(tmp_path)
    step = alarm_step(run)
    assert metrics(run)[-1]["step"] == step < 12
    assert (info(run).state, info(run).error) == ("interrupted", "stopped by Posterior collapse since step 2")
    (kept,) = run.checkpoints.glob("interrupted_*.ckpt")
    assert load_checkpoint(kept)["global_step"] == step
    shown = capsys.readouterr().out
    assert f"--resume_from_checkpoint {run.root}" in shown and f"python -m backend resume {run.root} --remedy NAME" in shown
    assert go_on(run.root) == 0, "the same collapse does not stop it again"
    assert metrics(run)[-1]["step"] == 12 and info(run).error is None


def test_checkpoint_is_written_at_the_moment_and_training_goes_on(stays, tmp_path):
    run = start(stays, tmp_path, on_collapse="checkpoint", **COLLAPSING)
    ((path, sidecar),) = [found for found in read_sidecars(run.checkpoints) if found[1].kind == "collapse"]
    assert path.name == f"collapse_step-{alarm_step(run):09d}.ckpt" and sidecar.step == alarm_step(run)
    assert load_checkpoint(path)["global_step"] == sidecar.step
    (event,) = [event for event in events(run, "checkpoint") if event["data"]["kind"] == "collapse"]
    assert (event["step"], event["data"]["file"]) == (sidecar.step, path.name)
    assert metrics(run)[-1]["step"] == 12
    earlier = [side.step for _, side in read_sidecars(run.checkpoints) if side.kind == "earlier"]
    assert all(step <= sidecar.step for step in earlier), "what was there before the collapse is not replaced while it lasts"
    assert {side.kind for _, side in read_sidecars(run.checkpoints)} <= set(CHECKPOINT_KINDS)


def test_a_remedy_starts_in_place_and_survives_an_interruption(stays, tmp_path):
    options = {**COLLAPSING, "on_collapse": "remedy:beta_cut"}
    run = start(stays, tmp_path / "whole", **options)
    step = alarm_step(run)
    assert events(run, "remedy")[0]["step"] == step
    betas = [row["beta"] for row in metrics(run)]
    assert betas[:step] == [50.0] * step and betas[step] <= 1.0 and betas == sorted(betas, reverse=True)
    (final,) = run.checkpoints.glob("final_*.ckpt")
    assert module_from_checkpoint(final, PreparedDataset.open(stays)).beta <= 1.0, "evaluated as it was trained"
    assert attempt(stays, tmp_path / "cut", **{**options, "max_steps": step + 1}) == 0
    other = newest(tmp_path / "cut")
    assert go_on(other.checkpoints / "last.ckpt", max_steps=12) == 0
    assert [row["beta"] for row in metrics(other)] == betas


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pi_control", "aggressive_encoder", "free_bits"])
def test_our_own_run_with_a_remedy_is_resumed_identically(stays, tmp_path, monkeypatch, name):
    options = {**COLLAPSING, "remedy": name, "probe_time_budget": 1.0}
    whole = start(stays, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        signalled(patch, StepSeed, "on_train_batch_start", 13, signal.SIGINT)
        assert attempt(stays, tmp_path / "cut", **options) == 130
    run = newest(tmp_path / "cut")
    assert go_on(run.root) == 0
    assert_same_run(run, whole)
    told = [(event["step"], event["message"]) for event in events(whole, "remedy")]
    assert told == [(event["step"], event["message"]) for event in events(run, "remedy")] and told


class TestSomebodyElsesTraining:
    def test_stop(self, tmp_path):
        monitor = watcher(tmp_path)
        trainer = train(fresh(40.0), [monitor, OnCollapse(monitor, "stop")], 10)
        run = RunLayout(tmp_path / "run")
        assert trainer.global_step == alarm_step(run) < 200
        assert (info(run).state, info(run).error) == ("interrupted", "Posterior collapse since step 30")

    def test_checkpoint(self, tmp_path):
        monitor = watcher(tmp_path)
        trainer = train(fresh(40.0), [monitor, OnCollapse(monitor, "checkpoint")], 10)
        run = RunLayout(tmp_path / "run")
        assert [path.name for path in run.checkpoints.iterdir()] == [f"collapse_step-{alarm_step(run):09d}.ckpt"]
        assert trainer.global_step == 200 and info(run).state == "finished"

    def test_a_healthy_posterior_is_left_alone(self, tmp_path):
        monitor = watcher(tmp_path)
        trainer = train(fresh(1.0), [monitor, OnCollapse(monitor, "stop")], 5)
        assert trainer.global_step == 100 and info(RunLayout(tmp_path / "run")).state == "finished"

    def test_what_is_no_action_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="did you mean 'remedy:beta_cut'"):
            OnCollapse(watcher(tmp_path), "remedy:beta_cat")
