"""A sweep: what its file may say, one run for each trial, collapsed ones pruned, gone on with where it stopped."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from backend.__main__ import main
from backend.sweep import newest, open_study
from backend.sweep_space import read_space
from shared.errors import InputError
from shared.reader import read_record
from shared.schema import RunNotes
from tests.tiny_runs import TINY, info, stays

__all__ = ["stays"]


def written(folder: Path, text: str) -> Path:
    path = folder / "beta.toml"
    path.write_text(text)
    return path


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
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_space(written(tmp_path, text))


@pytest.mark.slow
def test_trials_are_tagged_runs_and_a_larger_number_goes_on(
    stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**TINY, "max_epochs": 1, "data_dir": str(stays), "output_dir": str(tmp_path / "runs")}
    lines = [f"{name} = {value!r}".replace("True", "true") for name, value in options.items()]
    text = "\n".join([*lines, "[sweep]", "metric = 'loss'", "trials = {}", "beta_max = [0.01, 0.1]"])
    for trials in (1, 2):
        assert main(["sweep", str(written(tmp_path, text.format(trials)))]) == 0
    said = capsys.readouterr().out
    assert "trial 0 of 1: loss " in said and "trial 1 of 2: loss " in said and "best so far" in said
    study = open_study(read_space(tmp_path / "beta.toml"), 1)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 2
    for trial in study.trials:
        run = newest(tmp_path / "runs", f"beta-{trial.number:04d}")
        assert run is not None and trial.user_attrs["run"] == run.root.name
        assert info(run).config["loss"]["beta_max"] == trial.params["loss.beta_max"]
        assert read_record(run.notes, RunNotes).tags == ["beta"]
