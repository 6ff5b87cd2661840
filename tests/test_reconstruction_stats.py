"""Figures of reconstruction errors against what is known of the errors they are made from."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.reconstruction.presence import Presence, reliability, skill
from shared import reconstruction_stats as stats
from tests.reconstruction_factory import CONSTANT, VARIABLES, events


def as_read(frame: pd.DataFrame) -> pd.DataFrame:
    """As `dashboard.reconstruction.events.read_events` hands it out."""
    return frame.assign(stay=frame["stay_id"].astype("category"), hour=frame["minute"] / 60)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-1e6, 1e6) | st.just(np.nan)), max_size=60))
def test_quantiles_by_group_are_those_of_numpy(pairs):
    group = np.array([at for at, _ in pairs], np.int64)
    values = np.array([value for _, value in pairs], float)
    found = stats.group_quantiles(group, values, 5, (0, 0.25, 0.5, 0.9, 1))
    for at in range(5):
        own = values[(group == at) & np.isfinite(values)]
        expected = np.quantile(own, (0, 0.25, 0.5, 0.9, 1)) if len(own) else np.full(5, np.nan)
        assert found[at] == pytest.approx(expected, rel=1e-9, abs=1e-6, nan_ok=True)


def test_errors_by_variable_are_in_units_and_in_standard_deviations():
    frame = as_read(events(60, left=0.5, claimed=0.5))
    found = stats.by_variable(frame)
    assert set(found.index) == {*VARIABLES, CONSTANT}, "what does not occur is left out, what has no value is not"
    for name, (_, std, _) in VARIABLES.items():
        own = frame.loc[frame["variable"] == name, "error"].to_numpy(float)
        row = found.loc[name]
        assert row["events"] == row["modelled"] == len(own)
        assert row["rmse"] == pytest.approx(np.sqrt((own**2).mean())) and row["bias"] == pytest.approx(own.mean(), abs=1e-9)
        assert row["median"] == pytest.approx(np.median(np.abs(own))) and row["low"] < row["median"] < row["high"]
        assert row["rmse_std"] == pytest.approx(row["rmse"] / std, rel=1e-4) and row["rmse_std"] == pytest.approx(0.5, rel=0.1)
        assert row["within"] == pytest.approx(0.95, abs=0.04)
    bare = found.loc[CONSTANT]
    assert bare["events"] > 0 and bare["modelled"] == 0 and np.isnan(bare[["rmse", "rmse_std", "within"]].to_numpy(float)).all()


def test_the_worst_patient_comes_first():
    frame = as_read(events(6, claimed=0.5))
    bad = frame["stay"] == "p3"
    frame.loc[bad & (frame["variable"] == "Temp"), ["error", "error_in_std"]] = [9.0, 9.0]
    found = stats.by_patient(frame)
    assert found.index[0] == "p3" and found.iloc[0]["worst"] == "Temp"
    assert found["error"].is_monotonic_decreasing and found.iloc[0]["within"] < found.iloc[1:]["within"].min()
    assert found["events"].sum() == len(frame) and found["hours"].max() == 19


@pytest.mark.parametrize("hours", [1, 30, 48, 24 * 90, 24 * 4000])
def test_time_bins_are_few_round_and_complete(hours):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.uniform(0, hours, 500), "error_in_std": rng.standard_normal(500)})
    found = stats.by_time(frame)
    assert found["events"].sum() == 500 and len(found) <= stats.MOST_BINS + 1
    assert found["start"].iloc[0] == 0 and (found["low"] <= found["median"]).all() and (found["median"] <= found["high"]).all()


def test_time_before_admission_has_a_bin_too():
    found = stats.by_time(pd.DataFrame({"hour": [-3.0, 5.0], "error_in_std": [1.0, -2.0]}))
    assert found["start"].min() <= -3 and found["median"].tolist() == [1, 2]
    assert stats.by_time(pd.DataFrame({"hour": [1.0], "error_in_std": [np.nan]})).empty


@pytest.mark.parametrize(("claimed", "sign"), [(0.5, 0), (0.25, -1), (1.0, 1)])
def test_calibration_tells_right_from_too_sure_and_not_sure_enough(claimed, sign):
    z = stats.z_scores(as_read(events(80, left=0.5, claimed=claimed)))
    found = stats.coverage(z)
    gap = (found["inside"] - found["level"]).loc[found["level"].between(0.3, 0.9)]
    assert (np.abs(gap) < 0.03).all() if sign == 0 else (np.sign(gap) == sign).all()
    counts = stats.pit(z)
    assert counts.sum() == np.isfinite(z).sum()
    edge, middle = counts[[0, -1]].mean(), counts[8:12].mean()
    assert edge == pytest.approx(middle, rel=0.25) if sign == 0 else np.sign(middle - edge) == sign


def test_no_uncertainty_is_no_calibration():
    z = stats.z_scores(as_read(events(5)))
    assert np.isnan(z).all() and stats.coverage(z)["inside"].isna().all() and stats.pit(z).sum() == 0
    assert np.isnan(stats.predicted_spread(as_read(events(5)))).all()


def test_predicted_spread_is_in_standard_deviations_of_the_variable():
    frame = as_read(events(20, claimed=0.3))
    spread = stats.predicted_spread(frame)
    assert spread[np.isfinite(spread)] == pytest.approx(0.3, rel=1e-3)
    assert np.isnan(spread[(frame["variable"] == CONSTANT).to_numpy()]).all()
    at = np.linspace(-4, 4, 801)
    assert stats.normal_density(at, np.array([0.3, 0.6])).sum() * 0.01 == pytest.approx(1, abs=1e-3)


def made_presence(probability: np.ndarray, occurred: np.ndarray) -> Presence:
    sets, variables = probability.shape
    return Presence(
        tuple(f"v{at}" for at in range(variables)), np.full(sets, "p"), np.arange(sets, 0, -1.0), probability, occurred
    )


def test_reliability_of_true_probabilities_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    probability = rng.random((4000, 5)).astype(np.float32)
    found = reliability(made_presence(probability, rng.random((4000, 5)) < probability))
    assert found["pairs"].sum() == 20000
    assert (np.abs(found["predicted"] - found["observed"]) < 0.04).all()
    assert ((found["low"] <= found["observed"]) & (found["observed"] <= found["high"])).all()


def test_skill_is_one_for_certainty_zero_for_frequency_and_nothing_where_nothing_varies():
    occurred = np.array([[1, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 1]], bool)
    probability = np.array([[1, 0.5, 0.9], [0, 0.5, 0.9], [1, 0.5, 0.9], [0, 0.5, 0.9]])
    found = skill(made_presence(probability, occurred))["skill"].tolist()
    assert found[:2] == [1, 0] and np.isnan(found[2])


def test_sets_of_one_patient_are_in_order_of_time():
    presence = made_presence(np.array([[0.1], [0.9]]), np.array([[False], [True]]))
    own = presence.of("p")
    assert own.hour.tolist() == [1, 2] and own.probability.ravel().tolist() == [0.9, 0.1] and not len(presence.of("q").hour)
