"""The trials of a sweep as they are kept: which are tried, gone on with, and by whom."""

import os
from pathlib import Path

import pytest
from optuna.trial import TrialState

from backend.sweep import Sweep
from backend.sweep_runs import BAD_INPUT, Ended, Trainings
from backend.sweep_study import alone, open_study, trials_left
from shared.errors import InputError
from shared.layout import RunLayout
from tests.sweep_files import sweep


def test_lists_alone_are_tried_in_each_combination_once(tmp_path: Path) -> None:
    lists = "[sweep]\ntrials = {}\nbeta_max = [0.1, 0.2]\nlatent_dim = [8, 16]"
    for trials, expected in ((2, 2), (30, 4), (30, 4)):  # also where more are asked for later, and after a restart
        space = sweep(tmp_path, lists.format(trials))
        study = open_study(space, 1)
        left = trials_left(space, study.trials)
        for _ in range(left):
            study.tell(study.ask(space.options), state=TrialState.PRUNED)
        assert len(study.trials) == expected
    assert left == 0
    assert {tuple(trial.params.values()) for trial in study.trials} == {(0.1, 8), (0.1, 16), (0.2, 8), (0.2, 16)}


def test_a_restarted_sweep_does_not_draw_the_same_trials_again(tmp_path: Path) -> None:
    space = sweep(tmp_path, "[sweep]\nbeta_max = {low = 0.1, high = 1.0}")
    drawn = []
    for _ in range(3):
        study = open_study(space, 2)
        trial = study.ask(space.options)
        drawn.append(trial.params["loss.beta_max"])
        study.tell(trial, state=TrialState.FAIL)
    assert len(set(drawn)) == 3


def test_other_choices_aims_and_a_second_process_are_refused(tmp_path: Path) -> None:
    space = sweep(tmp_path, "[sweep]\nlatent_dim = [8, 16]")
    study = open_study(space, 1)
    study.tell(study.ask(space.options), state=TrialState.FAIL)
    with pytest.raises(
        InputError, match=r"sweep\.model\.latent_dim: .*begun with \[8, 16\], and cannot go on with \[8, 32\]; put"
    ):
        open_study(sweep(tmp_path, "[sweep]\nlatent_dim = [8, 32]"), 1)
    with pytest.raises(InputError, match=r"sweep\.metric: .* is to maximize auroc, not to maximize elbo; choose another"):
        open_study(sweep(tmp_path, "[sweep]\nmetric = 'elbo'\nlatent_dim = [8, 16]"), 1)
    with alone(space), pytest.raises(InputError, match=rf"process {os.getpid()} is running the sweep 'beta'"), alone(space):
        pass
    with alone(space):
        pass


def test_a_trial_that_was_killed_before_it_had_its_options_gets_them(tmp_path: Path) -> None:
    space = sweep(tmp_path, "[sweep]\nbeta_max = {low = 0.1, high = 1.0}\nlatent_dim = [8, 16]")
    study = open_study(space, 1)
    trial = study.ask()
    beta = trial.suggest_float("loss.beta_max", 0.1, 1.0)
    (begun,) = study.get_trials()
    taken_up = Sweep(space, study, Trainings(space, [], 1))._taken_up(begun)
    assert taken_up.params["loss.beta_max"] == beta and taken_up.params["model.latent_dim"] in (8, 16)


def test_a_trial_that_cannot_be_taken_up_now_may_be_later(tmp_path: Path) -> None:
    space = sweep(tmp_path, "[sweep]\nlatent_dim = [8, 16]")
    study = open_study(space, 1)
    trial = study.ask(space.options)
    gone = Ended(RunLayout(tmp_path / "run"), BAD_INPUT, said=["error: prepared/mine: no such data set"])
    Sweep(space, study, Trainings(space, [], 1))._judge(trial, gone, again=True)
    assert study.trials[trial.number].state is TrialState.RUNNING
