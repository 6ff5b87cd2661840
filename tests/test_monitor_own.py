"""The posterior monitor on our own runs: NaN, failing disks, presets, snapshots, time budget."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from backend import watching
from backend.callbacks import StepSeed
from backend.checkpoints import AtomicCheckpointIO
from backend.recorder import Alarm, RunRecorder
from shared.cadence import evaluated_every
from shared.layout import RunLayout
from shared.reader import JsonlTail
from shared.schema import RunInfo
from tests.killed_runs import signalled
from tests.tiny_runs import attempt, evaluations, events, info, metrics, newest, rows, start, stays

__all__ = ["stays"]


def test_nan_is_an_alarm_at_once_and_training_goes_on(stays, tmp_path, monkeypatch, capsys):
    from backend.lit import SeqSetVAEModule

    original = SeqSetVAEModule.objective

    def poisoned(self, batch, encoded):
        loss, parts, logit = original(self, batch, encoded)
        if self.training and self.global_step == 4:
            parts = parts.clone()
            parts[0] = torch.nan
        return loss, parts, logit

    monkeypatch.setattr(SeqSetVAEModule, "objective", poisoned)
    run = start(stays, tmp_path, max_steps=9, update_frequency=8)
    table = metrics(run)
    assert [row["step"] for row in table] == list(range(1, 10))
    assert table[4]["loss"] is None and table[4]["nonfinite"] == ["loss"]
    alarm = events(run, "verdict")[0]
    assert (alarm["step"], alarm["data"]["verdict"], alarm["data"]["severity"]) == (5, "nonfinite", "alarm")
    assert "NaN or infinity" in capsys.readouterr().err


def test_nan_weights_do_not_stop_training(stays, tmp_path, monkeypatch):
    from backend.lit import SeqSetVAEModule

    original = SeqSetVAEModule.objective

    def poisoned(self, batch, encoded):
        loss, parts, logit = original(self, batch, encoded)
        bad = self.training and self.global_step == 4
        return (loss * torch.nan if bad else loss), parts, logit

    monkeypatch.setattr(SeqSetVAEModule, "objective", poisoned)
    run = start(stays, tmp_path, max_steps=9, update_frequency=8, plot_frequency=8)
    assert "nonfinite" in metrics(run)[-1]
    assert evaluations(run, "probe")[0]["nonfinite"]


def test_a_vanished_folder_warns_once_and_training_goes_on(stays, tmp_path, monkeypatch, capsys):
    from backend.callbacks import StepLog

    original = StepLog._commit

    def removing(self, trainer, module, batches):
        if trainer.global_step == 6:
            shutil.rmtree(self.recorder.layout.root)
        original(self, trainer, module, batches)

    monkeypatch.setattr(StepLog, "_commit", removing)
    assert attempt(stays, tmp_path) == 1
    said = capsys.readouterr()
    assert said.err.count("WARNING: cannot write") == 1
    assert "lines could not be written and are lost" in said.err, "at the end it is said what is gone"
    assert "at step 17, but its final checkpoint could not be written" in said.err


def test_one_kind_of_failure_is_said_once_and_another_kind_too(capsys):
    told: list[str] = []
    alarm = Alarm(told.append)
    for name in ("metrics", "events"):
        alarm(f"cannot write {name}", "records")
    alarm("snapshot not written", "snapshots")
    for _ in range(2):
        alarm("checkpoint not written")
    assert told == ["cannot write metrics", "snapshot not written", *["checkpoint not written"] * 2]
    assert capsys.readouterr().err.count("WARNING") == 4
    alarm.quiet_for = 0
    alarm("lost", "records")
    assert "lost" in capsys.readouterr().err


def test_checkpoints_that_fail_are_said_each_time_and_kept_as_events(stays, tmp_path, monkeypatch, capsys):
    def full(self, checkpoint, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AtomicCheckpointIO, "_write", full)
    assert attempt(stays, tmp_path, max_steps=7, val_check_interval=1.0) == 1
    run = newest(tmp_path)
    warned = events(run, "warning")
    assert [event["step"] for event in warned] == [0, 3, 6, 6, 7, 7], "last at 0, 3, 6; the best at 6; last and final at 7"
    assert all("checkpoint" in event["message"] and "No space left" in event["message"] for event in warned)
    assert capsys.readouterr().err.count("not written: No space left") == 6
    assert info(run).state == "failed" and "final checkpoint could not be written" in info(run).error


def test_an_interrupted_run_that_cannot_be_saved_says_so(stays, tmp_path, monkeypatch, capsys):
    original = AtomicCheckpointIO._write

    def full(self, checkpoint, path):
        if "interrupted" in path.name:
            raise OSError(28, "No space left on device")
        original(self, checkpoint, path)

    monkeypatch.setattr(AtomicCheckpointIO, "_write", full)
    signalled(monkeypatch, StepSeed, "on_train_batch_start", 9, signal.SIGINT)
    assert attempt(stays, tmp_path) == 1
    said = capsys.readouterr().err
    assert "error: stopped at step 5 (Ctrl-C), unsaved" in said and "from what was saved last" in said
    assert info(newest(tmp_path)).state == "failed"


def test_standard_and_fast_presets(stays, tmp_path):
    for out, options, steps, expected in (
        ("fast", {"fast_detection": True}, 10_000, (100, 1000)),
        ("standard", {}, 10_000, (200, 2000)),
        ("short", {}, 300, (15, 2000)),
        ("given", {"fast_detection": True, "update_frequency": 7, "plot_frequency": 9}, 10_000, (7, 9)),
    ):
        assert preset(options, steps) == expected, out


def preset(options: dict[str, object], steps: int) -> tuple[int, int]:
    from types import SimpleNamespace
    from unittest.mock import patch

    from backend import training
    from shared.configuring import build_config

    job = SimpleNamespace(config=build_config(options), recorder=None, valid_set=None, plan=SimpleNamespace(total_steps=steps))
    with patch.object(training, "StayProbe"):
        monitor = training.posterior_monitor(job)
    return monitor.cadence.update_frequency, monitor.cadence.plot_frequency


def test_monitoring_off_leaves_losses_and_no_posterior(stays, tmp_path):
    run = start(stays, tmp_path, disable_metrics_monitoring=True, max_steps=4)
    table = metrics(run)
    assert "loss" in table[-1] and "mi_gauss" not in table[-1] and "active_units" not in table[-1]
    assert not evaluations(run, "probe")
    assert not (run.root / "posterior").exists()


def test_snapshots_of_the_fixed_probe(stays, tmp_path):
    import pandas as pd

    run = start(stays, tmp_path, max_steps=8, levels=2, plot_frequency=4, log_dir=str(tmp_path / "pictures"))
    for kind in ("posterior", "latents", "reconstruction"):
        assert [step for step, _ in run.snapshots(kind)] == [4, 8]
    posterior, latents, reconstruction = (pd.read_parquet(p(8)) for p in (run.posterior, run.latents, run.reconstruction))
    assert posterior[["level", "dim"]].to_numpy().tolist() == [[level, d] for level in range(2) for d in range(4)]
    row = evaluations(run, "probe")[-1]
    assert posterior["kl"].sum() == pytest.approx(row["kl"], rel=1e-4)
    first = pd.read_parquet(run.latents(4))
    assert first["set_row"].tolist() == latents["set_row"].tolist(), "the same sets every time"
    assert len(latents["mu"][0]) == 8
    error = (reconstruction["reconstructed"] - reconstruction["observed"]).to_numpy()
    assert error == pytest.approx(reconstruction["error"].to_numpy(), abs=1e-3, nan_ok=True)
    assert reconstruction.groupby("variable", observed=True)["observed"].median()["HR"] > 30, "in beats per minute"
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == [
        "posterior-000000004.png",
        "posterior-000000008.png",
    ]


def test_probing_keeps_to_its_time_budget_and_says_so_once(tmp_path, monkeypatch, capsys):
    clock = [0.0]
    probes = []

    def probe():
        probes.append(clock[0])
        clock[0] += 1.0
        return result()

    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    watch = watching.Watch(recorder_in(tmp_path), watching.Cadence(update_frequency=1, time_budget=0.02), probe=probe)
    for step in range(1, 1001):
        clock[0] += 0.5
        watch.look(step)
    assert len(probes) / clock[0] <= 0.02 + 1 / clock[0]
    assert len(probes) >= 9
    told = [row["message"] for row in JsonlTail(RunLayout(tmp_path).events).read() if row["kind"] == "warning"]
    assert len(told) == 1 and "evaluations every 1 steps would take 67% of the time" in told[0], "once"
    assert "about every 98;" in told[0] and "budget of 0.67 (--probe_time_budget, now 0.02)" in told[0]
    assert told[0] in capsys.readouterr().err


@pytest.mark.parametrize("chosen", [True, False])
def test_a_short_run_has_evaluations_all_along(tmp_path, monkeypatch, chosen):
    clock, steps = [0.0], []

    def probe():
        steps.append(watch.step)
        clock[0] += 2.0
        return result()

    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    recorder = recorder_in(tmp_path)
    recorder.beat.max_steps = 300
    watch = watching.Watch(recorder, watching.Cadence(evaluated_every({}, 300), chosen=chosen), probe=probe)
    for step in range(1, 301):
        clock[0] += 0.2
        watch.look(step)
    watch.finish()
    assert steps == [15, 60, 120, 180, 240, 300], "two percent of a minute would be one"
    told = [row["message"] for row in JsonlTail(RunLayout(tmp_path).events).read() if row["kind"] == "warning"]
    assert len(told) == chosen
    clock[0], watch.step = clock[0] + 600.0, 3000  # its owner goes on after the steps that were planned
    for step in range(3001, 3201):
        clock[0] += 0.2
        watch.look(step)
    assert len(steps) <= 8, "two percent of the time from then on"
    assert not chosen or "evaluations every 15 steps would take 40% of the time, so they come about every 60;" in told[0]


def result():
    import pandas as pd

    from backend.snapshots import ProbeResult

    return ProbeResult({"kl": 1.0, "mi_gauss": 1.0, "active_ratio": 1.0, "patients": 99}, *([pd.DataFrame({"a": [1]})] * 3))


def recorder_in(tmp_path: Path) -> RunRecorder:
    return RunRecorder(RunLayout(tmp_path), RunInfo(name="x", config={}))


def test_tail_of_the_run_is_readable_while_it_grows(stays, tmp_path, monkeypatch):
    """A reader that follows a run sees each step once, in order."""
    seen: list[int] = []
    tails: dict[Path, JsonlTail] = {}
    original = RunRecorder.commit

    def commit(self, step):
        original(self, step)
        tail = tails.setdefault(self.layout.metrics, JsonlTail(self.layout.metrics))
        seen.extend(row["step"] for row in tail.read())

    monkeypatch.setattr(RunRecorder, "commit", commit)
    start(stays, tmp_path, max_steps=6)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert rows(newest(tmp_path).events)
