"""The trials of a sweep as Optuna keeps them: a journal beside the runs, what it aims at, and who may write it."""

import fcntl
import itertools
import math
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, check_distribution_compatibility
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from backend.sweep_space import Space
from shared.errors import InputError

MOST_LISTED = 10_000
"""Combinations that are laid out beforehand; of more, draws hardly repeat."""
COLLAPSE, BEHIND = "its posterior collapsed", "fell behind"
"""Why a trial was pruned: its attribute "end"."""


def beside_runs(space: Space, kind: str) -> Path:
    """A file of the sweep beside its runs.

    Raises:
        InputError: there is no such folder, and it cannot be made.
    """
    folder = Path(space.base.output.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output.output_dir: cannot create {folder}: {error.strerror}") from error
    return folder / f".{space.name}.sweep.{kind}"


@contextmanager
def alone(space: Space) -> Iterator[None]:
    """Only one process at a time runs a sweep: another would take its trials for those of one that was killed.

    Raises:
        InputError: one does.
    """
    path = beside_runs(space, "lock")
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                f"sweep.name: process {file.read().strip()} is running the sweep {space.name!r} in {path.parent}; stop it first, or "
                "choose another sweep.name"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def open_study(space: Space, jobs: int) -> optuna.Study:
    """The study in its journal `.NAME.sweep.journal` beside the runs, new or gone on with.

    Raises:
        InputError: a sweep of that name has another aim, or other choices.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    journal = beside_runs(space, "journal")
    pruner = optuna.pruners.MedianPruner() if space.pruner == "median" else optuna.pruners.NopPruner()
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))), study_name=space.name, direction=space.direction,
        load_if_exists=True, pruner=pruner,
    )  # fmt: skip
    aim = f"{space.direction} {space.metric}"
    known = study.user_attrs.get("aim", aim)
    if known != aim:
        raise InputError(
            f"sweep.metric: the sweep {space.name!r} in {journal.parent} is to {known}, not to {aim}; choose another sweep.name"
        )
    study.set_user_attr("aim", aim)
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        _check_choices(space, trial)
    # another seed for each start: else the trials of the first session would be drawn once more in the second
    seed = np.random.SeedSequence([space.base.trainer.seed, len(trials)]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=jobs > 1)
    for combination in combinations(space):
        study.enqueue_trial(combination, skip_if_exists=True)
    return study


def _check_choices(space: Space, trial: FrozenTrial) -> None:
    for name, old in trial.distributions.items():
        new = space.options.get(name, old)
        try:
            check_distribution_compatibility(old, new)
        except ValueError as error:
            raise InputError(
                f"sweep.{name}: the sweep {space.name!r} was begun with {_shown(old)}, and cannot go on with {_shown(new)}; put "
                "it back, or choose another sweep.name"
            ) from error


def _shown(of: optuna.distributions.BaseDistribution) -> str:
    return str(list(of.choices)) if isinstance(of, CategoricalDistribution) else "a range"


def combinations(space: Space) -> list[dict[str, Any]]:
    """Where there are only lists, what is tried: as many combinations as trials, in an order that more trials go on with.

    Drawn one by one they would repeat, and the same options twice are the same run twice. None of more than `MOST_LISTED`.
    """
    choices = [of.choices for of in space.options.values() if isinstance(of, CategoricalDistribution)]
    if len(choices) < len(space.options) or math.prod(map(len, choices)) > MOST_LISTED:
        return []
    every = [dict(zip(space.options, chosen, strict=True)) for chosen in itertools.product(*choices)]
    random.Random(space.base.trainer.seed).shuffle(every)
    return every[: space.trials]


def trials_of(space: Space) -> int:
    """How many trials the sweep has when it is done."""
    return len(combinations(space)) or space.trials


def trials_left(space: Space, trials: Sequence[FrozenTrial]) -> int:
    """How many are to be begun or gone on with."""
    finished = sum(trial.state.is_finished() for trial in trials)
    return len(trials) - finished if combinations(space) else max(space.trials - finished, 0)


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """The best trial that came to its end."""
    return study.best_trial if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else None
