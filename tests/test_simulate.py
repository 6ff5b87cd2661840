"""Simulated stays: fixed by the seed, plausible, and with a truth that can be learned."""

from pathlib import Path

import numpy as np
import pytest

from backend.preparing import build
from backend.simulate import BLOCK, Simulation
from backend.simulated_variables import UNITS, VARIABLES
from backend.store import PreparedDataset
from shared.errors import InputError
from tests.sources import sets_of


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    out = tmp_path_factory.mktemp("simulated") / "cohort"
    build(Simulation(3000, seed=0), out, seed=0)
    return PreparedDataset.open(out)


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """By ranks (Mann-Whitney)."""
    rank = np.empty(len(score))
    rank[np.argsort(score)] = np.arange(1, len(score) + 1)
    positives = int(label.sum())
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def test_a_seed_fixes_everything(tmp_path: Path) -> None:
    first = build(Simulation(40, seed=5), tmp_path / "a", seed=5)
    second = build(Simulation(40, seed=5), tmp_path / "elsewhere", seed=5)
    other = build(Simulation(40, seed=6), tmp_path / "c", seed=6)
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_a_stay_does_not_depend_on_the_size_of_the_cohort(tmp_path: Path) -> None:
    build(Simulation(BLOCK + 3, seed=2), tmp_path / "small", seed=2)
    build(Simulation(3 * BLOCK, seed=2), tmp_path / "large", seed=2)
    small, large = PreparedDataset.open(tmp_path / "small"), PreparedDataset.open(tmp_path / "large")
    for stay in ("sim-0000000", f"sim-{BLOCK - 1:07d}", f"sim-{BLOCK + 2:07d}"):
        assert sets_of(small, stay) == sets_of(large, stay)
    columns = ["stay_id", "in_hospital_mortality", "death_probability", "set_count"]
    assert small.stays[columns].equals(large.stays[columns].iloc[: BLOCK + 3])


def test_values_lie_within_their_limits(cohort: PreparedDataset) -> None:
    assert [variable.name for variable in cohort.info.variables] == list(UNITS)
    assert all(variable.unit == UNITS[variable.name] for variable in cohort.info.variables)
    for index, variable in enumerate(VARIABLES):
        values = cohort.event_value[cohort.event_variable == index]
        assert len(values)
        assert variable.low <= values.min() <= values.max() <= np.float32(variable.high)


def test_sets_are_shaped_as_promised(cohort: PreparedDataset) -> None:
    assert cohort.stays["set_count"].between(30, 70).all()
    sizes = np.diff(cohort.set_start)
    assert (sizes.min(), sizes.max()) == (1, 15)
    first = cohort.stays["set_start"].to_numpy()
    gaps = np.delete(np.diff(cohort.set_minute), first[1:] - 1)
    assert gaps.min() >= 1
    assert (cohort.set_minute[first] == 0).all()
    assert cohort.set_minute.max() < 48 * 60
    assert 380 < cohort.info.events / len(cohort.stays) < 460


def test_no_variable_occurs_twice_in_a_set(cohort: PreparedDataset) -> None:
    of_set = np.repeat(np.arange(cohort.info.sets), np.diff(cohort.set_start))
    assert len(np.unique(of_set * 100 + cohort.event_variable)) == cohort.info.events


def test_death_is_rare_and_can_be_learned(cohort: PreparedDataset) -> None:
    died = cohort.stays["in_hospital_mortality"].to_numpy()
    truth = cohort.stays["death_probability"].to_numpy()
    assert 0.11 < died.mean() < 0.16
    assert 0.88 < auroc(truth, died) < 0.94
    assert abs(truth.mean() - died.mean()) < 0.02


def test_sicker_patients_look_it_and_are_measured_more(cohort: PreparedDataset) -> None:
    truth = cohort.stays["death_probability"].to_numpy()
    stay = np.repeat(np.arange(len(cohort.stays)), cohort.stays["event_count"])
    sick, well = truth > np.quantile(truth, 0.8), truth < np.quantile(truth, 0.2)
    names = list(UNITS)
    for name, direction in (("HR", 1), ("MAP", -1), ("GCS", -1), ("Lactate", 1), ("SpO2", -1)):
        chosen = cohort.event_variable == names.index(name)
        difference = cohort.event_value[chosen & sick[stay]].mean() - cohort.event_value[chosen & well[stay]].mean()
        assert direction * difference > 0, name
    assert cohort.stays["set_count"][sick].mean() > cohort.stays["set_count"][well].mean() + 3


@pytest.mark.parametrize(("patients", "seed"), [(0, 0), (5, -1)])
def test_impossible_cohorts_are_refused(patients: int, seed: int) -> None:
    with pytest.raises(InputError, match="at least"):
        Simulation(patients, seed)


def test_too_few_patients_for_a_training_split_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training stays"):
        build(Simulation(1, seed=0), tmp_path / "out", seed=0, valid=0.0, test=0.9)
    assert list(tmp_path.iterdir()) == []
