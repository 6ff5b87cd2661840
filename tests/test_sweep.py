"""A sweep: what its file may say, one run for each trial, collapsed ones pruned, gone on with where it stopped."""

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from backend.__main__ import main
from backend.sweep import gpu_places
from backend.sweep_runs import Trainings, Validations, last_error, newest, runs_of, status_of
from backend.sweep_space import read_space
from backend.sweep_study import open_study
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunNotes
from shared.writer import JsonlWriter
from tests.sweep_files import sweep, written
from tests.tiny_runs import TINY, info, metrics, stays

__all__ = ["stays"]


def test_a_file_becomes_a_space(tmp_path: Path) -> None:
    space = read_space(
        written(
            tmp_path,
            """
            batch_size = 8
            [sweep]
            metric = "loss"
            trials = 3
            loss.beta_max = {low = 0.01, high = 1.0, log = true}
            "model.latent_dim" = [32, 64]
            transformer_layers = {low = 1, high = 3}
            embedding_dim = {low = 32, high = 128}
            """,
        )
    )
    assert (space.name, space.metric, space.direction, space.trials, space.base.data.batch_size) == (
        "beta",
        "loss",
        "minimize",
        3,
        8,
    )
    assert space.options == {
        "model.embedding_dim": IntDistribution(32, 128),
        "loss.beta_max": FloatDistribution(0.01, 1.0, log=True),
        "model.latent_dim": CategoricalDistribution([32, 64]),
        "model.transformer_layers": IntDistribution(1, 3),
    }
    assert space.words({"loss.beta_max": 0.5}) == ["--beta_max", "0.5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch_size = 8", r"beta\.toml: has no \[sweep\] table"),
        ("[sweep]\ntrials = 3", r"\[sweep\] names no option to try"),
        ("[sweep]\ntrials = 0\nbeta_max = [1, 2]", r"sweep\.trials: .* got 0"),
        ("[sweep]\nmetric = 'f1'\nbeta_max = [1, 2]", r"sweep\.metric: .*got 'f1'"),
        ("[sweep]\nbeta_mx = [1, 2]", r"sweep: unknown option 'beta_mx'; did you mean 'beta_max'"),
        ("[sweep]\nbeta_max = {low = 2, high = 1}", r"sweep\.loss\.beta_max: low has to be below high, got low 2 and high 1"),
        ("[sweep]\nbeta_max = {low = 0, high = 1, log = true}", r"sweep\.loss\.beta_max\.low: a range with log begins above 0"),
        ("[sweep]\nbeta_max = {low = -1, high = 1}", r"sweep\.loss\.beta_max: loss\.beta_max: .* got -1"),
        ("[sweep]\nbeta_max = {low = 'a', high = 1}", r"sweep\.loss\.beta_max\.low: .* got 'a'"),
        ("[sweep]\ndecoder = ['chamfer', 'x']", r"sweep\.model\.decoder: model\.decoder: .* got 'x'"),
        ("[sweep]\nbeta_max = 3", r"sweep\.loss\.beta_max: 3 is neither a range"),
        ("[sweep]\ntrial = 3\nbeta_max = [1, 2]", r"sweep\.trial: unknown; did you mean 'trials'"),
        ("[sweep]\nbeta_max = {low = 1, hihg = 2}", r"sweep\.loss\.beta_max\.hihg: unknown; a range is"),
        ("[sweep]\nbeta_max = {low = 1}", r"sweep\.loss\.beta_max\.high: missing; a range is"),
        ("[sweep]\ndevices = [1, 2]", r"sweep\.trainer\.devices: got \[1, 2\], and it is the same for all trials; set it above"),
        ("num_nodes = 2\n[sweep]\nbeta_max = [1, 2]", r"trainer\.num_nodes: 2, and a sweep .* on one machine; leave it out"),
        ("resume_from_checkpoint = 'x'\n[sweep]\nbeta_max = [1, 2]", r"resume_from_checkpoint: 'x', .* with init_from"),
        ("stage = 'pretrain'\n[sweep]\nbeta_max = [1, 2]", r"sweep\.metric: 'auroc', .*'pretrain'.* has: elbo, loss, recon$"),
        ("[sweep]\nmetric = 'elbo'\ndecoder = ['likelihood', 'chamfer']", r"sweep\.metric: 'elbo', .*decoder 'chamfer' does not"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_space(written(tmp_path, text))


@pytest.mark.parametrize(
    ("options", "visible", "places"),
    [
        ({}, None, ["0", "1", "2", "3"]),
        ({}, "5,GPU-a, 7,2", ["5", "GPU-a", "7", "2"]),
        ({"devices": 2}, None, ["0,1", "2,3"]),
        ({"devices": 3}, "4,5,6,7", ["4,5,6"]),
        ({"accelerator": "cpu"}, None, []),
    ],
)
def test_gpus_are_dealt_out_by_the_names_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, options: dict, visible: str | None, places: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_places(build_config(options)) == places


@pytest.mark.parametrize(("places", "seen"), [(["3", "GPU-a"], ["3", "GPU-a", "3"]), ([], ["as it was"] * 3)])
def test_each_worker_has_a_gpu_to_itself_as_far_as_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: list[str], seen: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "as it was")
    trainings = Trainings(sweep(tmp_path, "[sweep]\nbeta_max = [1, 2]"), places, 3)
    for worker, expected in enumerate(seen):
        with tempfile.TemporaryFile() as said:
            command = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
            with trainings._process(command, worker, said):
                pass
            said.seek(0)
            assert said.read().decode().split("\n")[0] == expected


def test_validations_are_told_once_and_counted(tmp_path: Path) -> None:
    """By their number, so that runs of other batch sizes compare; a run that is gone on with has told some already."""
    space = sweep(tmp_path, "[sweep]\nmetric = 'loss'\npruner = 'median'\nbeta_max = [1, 2]")
    run = RunLayout(tmp_path / "run")
    run.root.mkdir()
    log = JsonlWriter(run.evaluations)
    for step, value in ((3, 2.0), (6, 1.5)):
        log.write(step, {"kind": "validation", "loss": value})
        log.write(step, {"kind": "probe", "loss": 9.0})
    trial = open_study(space, 1).ask(space.options)
    first = Validations(run, "loss")
    assert first.report(trial) and not first.report(trial)
    log.write(9, {"kind": "validation", "loss": 1.0})
    log.write(9, {"kind": "validation", "loss": 0.9, "full": True})
    again = Validations(run, "loss")
    assert again.report(trial) and again.newest == 1.0
    assert open_study(space, 1).trials[0].intermediate_values == {1: 2.0, 2: 1.5, 3: 1.0}


def test_runs_of_a_trial_are_not_those_of_a_sweep_with_a_longer_name(tmp_path: Path) -> None:
    for name in ("a-0001-20260101-120000", "a-0001-20260101-120000-2", "a-0001-0000-20260101-120001", "a-0001-note"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    assert [path.name for path in runs_of(tmp_path, "a-0001")] == ["a-0001-20260101-120000", "a-0001-20260101-120000-2"]
    assert newest(tmp_path, "a-0001", set(runs_of(tmp_path, "a-0001"))) is None


def test_what_train_refused_is_said_without_what_went_before() -> None:
    assert (
        last_error(["a warning", "error: data.label: no such outcome;", "it has: x"])
        == "data.label: no such outcome; it has: x"
    )


def options_of(stays: Path, out: Path, **options: object) -> list[str]:
    chosen = {**TINY, "data_dir": str(stays), "output_dir": str(out), **options}
    return [f"{name} = {value!r}".replace("True", "true") for name, value in chosen.items()]


@pytest.mark.slow
def test_a_collapsed_trial_is_pruned_while_another_comes_to_its_end(
    stays: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """beta 50 collapses the posterior for good; at a small one it is still forming when this short training ends."""
    options = options_of(stays, tmp_path / "runs", beta_warmup_steps=0, free_bits=0.0, update_frequency=2, max_epochs=2)
    text = "\n".join([*options, "[sweep]", "metric = 'elbo'", "beta_max = [50.0, 0.0001]"])
    assert main(["sweep", str(written(tmp_path, text)), "--jobs", "2"]) == 0
    said = capfd.readouterr()
    assert "trial 0: pruned: its posterior collapsed (loss.beta_max 50)" in said.out
    assert "trial 1: finished, elbo -" in said.out and "best: trial 1, elbo -" in said.out
    assert said.err == ""
    collapsed, finished = open_study(read_space(tmp_path / "beta.toml"), 2).trials
    assert (collapsed.state, finished.state) == (TrialState.PRUNED, TrialState.COMPLETE)
    runs = [RunLayout(tmp_path / "runs" / trial.user_attrs["run"]) for trial in (collapsed, finished)]
    assert [info(run).state for run in runs] == ["interrupted", "finished"]
    assert "stopped by Posterior collapse" in (info(runs[0]).error or "") and status_of(runs[0]) == 3
    assert len(metrics(runs[0])) < len(metrics(runs[1])), "it was stopped, not left to its end"
    assert said.out.index("trial 1 begins") < said.out.index("trial 0: pruned"), "both at a time"


@pytest.mark.slow
def test_ctrl_c_leaves_trials_that_the_same_command_goes_on_with(
    stays: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(
        [*options_of(stays, tmp_path / "runs", max_epochs=4), "[sweep]", "metric = 'loss'", "lr_warmup_steps = [3, 4]"]
    )
    command = ["sweep", str(written(tmp_path, text)), "--jobs", "2"]
    over = threading.Event()

    def interrupt() -> None:
        while not over.wait(0.02):
            if any(path.stat().st_size for path in tmp_path.glob("runs/*/metrics.jsonl")):
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert main(command) == 130
    finally:
        over.set()
        thread.join()
    assert f"go on with\n  python -m backend sweep {command[1]} --jobs 2" in capfd.readouterr().out
    space = read_space(tmp_path / "beta.toml")
    assert [trial.state for trial in open_study(space, 2).trials] == [TrialState.RUNNING] * 2
    begun = {path.parent.name: len(path.read_text().splitlines()) for path in tmp_path.glob("runs/*/metrics.jsonl")}
    assert begun and {info(RunLayout(tmp_path / "runs" / name)).state for name in begun} == {"interrupted"}
    assert main(command) == 0
    assert "2 of 2 trials to go" in capfd.readouterr().out
    study = open_study(space, 2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert begun.keys() <= {trial.user_attrs["run"] for trial in study.trials}
    for trial in study.trials:
        run = RunLayout(tmp_path / "runs" / trial.user_attrs["run"])
        assert [row["step"] for row in metrics(run)] == list(range(1, 1 + info(run).max_steps))
        assert begun.get(run.root.name, 0) < len(metrics(run))


@pytest.mark.slow
def test_trials_are_tagged_runs_and_a_larger_number_goes_on(
    stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(
        [
            *options_of(stays, tmp_path / "runs", max_epochs=1),
            "[sweep]",
            "metric = 'loss'",
            "trials = {}",
            "beta_max = [0.01, 0.1]",
        ]
    )
    for trials in (1, 2):
        assert main(["sweep", str(written(tmp_path, text.format(trials)))]) == 0
    said = capsys.readouterr().out
    assert "trial 0: finished, loss " in said and "trial 1: finished, loss " in said and "best so far" in said
    study = open_study(read_space(tmp_path / "beta.toml"), 1)
    assert {trial.params["loss.beta_max"] for trial in study.trials} == {0.01, 0.1}
    for trial in study.trials:
        run = newest(tmp_path / "runs", f"beta-{trial.number:04d}")
        assert run is not None and trial.user_attrs["run"] == run.root.name
        assert info(run).config["loss"]["beta_max"] == trial.params["loss.beta_max"]
        assert read_record(run.notes, RunNotes).tags == ["beta"]
