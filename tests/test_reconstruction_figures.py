"""Charts of the Reconstruction page, as data: what is drawn where, what marks trouble, and what is said when there is nothing."""

import numpy as np
import orjson
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard.charts import Look, text
from dashboard.reconstruction import calibration, figures
from dashboard.reconstruction import record as records
from dashboard.reconstruction.events import Events, History
from dashboard.reconstruction.presence import Presence, reliability, skill
from dashboard.reconstruction.tables import patient_frame, variable_frame
from dashboard.reconstruction.words import brief, first_due, notes
from shared import reconstruction_stats as stats
from tests.reconstruction_factory import CONSTANT, VARIABLES, events, presence

LOOKS = [Look(dark=False), Look(dark=True)]


def read(frame: pd.DataFrame) -> Events:
    shown = frame.assign(stay=frame["stay_id"].astype("category"), hour=frame["minute"] / 60)
    return Events(shown, frame.attrs["units"])


def expected_presence(frame: pd.DataFrame) -> Presence:
    made = presence(frame)
    rows = [np.stack(made[name]) for name in ("probability", "occurred")]
    return Presence(
        tuple(made.attrs["variables"]),
        made["stay_id"].to_numpy(),
        made["minute"].to_numpy() / 60,
        rows[0].astype(float),
        rows[1],
    )


@pytest.fixture(scope="module")
def snapshot() -> Events:
    return read(events(claimed=0.5))


def words(figure: go.Figure) -> str:
    return " ".join(note.text for note in figure.layout.annotations)


def drawn(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


@pytest.mark.parametrize("look", LOOKS)
def test_a_variable_worse_than_the_mean_differs_in_shape_and_colour_and_rare_ones_are_hollow(snapshot, look):
    errors = stats.by_variable(snapshot.frame)
    errors.loc["Temp", "rmse_std"], errors.loc["pH", "modelled"] = 1.4, 3
    (dots,) = figures.ranking(errors, look).data
    shape, colour = (dict(zip(dots.y, values, strict=True)) for values in (dots.marker.symbol, dots.marker.color))
    assert list(dots.y)[-1] == "Temp" and CONSTANT not in shape, "the worst on top; what has no value is named elsewhere"
    assert shape["Temp"] == "diamond" and shape["HR"] == "circle" and shape["pH"] == "circle-open"
    assert colour["Temp"] != colour["HR"] and list(map(text, dots.customdata)) == list(dots.y)
    assert figures.ranking(errors, look).layout.shapes[0].x0 == 1


def test_one_hopeless_variable_does_not_squeeze_the_others(snapshot):
    errors = stats.by_variable(snapshot.frame)
    errors.loc["Temp", "rmse_std"] = 500
    drawn = figures.ranking(errors, Look()).layout
    others = errors["rmse_std"].drop("Temp").max()
    assert drawn.xaxis.type == "linear" and others < drawn.xaxis.range[1] < 3 * max(others, 1)
    assert [(note.text, note.y) for note in drawn.annotations if note.y == "Temp"] == [("500 →", "Temp")]


def test_a_variable_with_too_few_values_is_not_ranked_among_the_worse(snapshot):
    errors = stats.by_variable(snapshot.frame)
    errors.loc["pH", ["rmse_std", "modelled"]] = [9.0, 1]
    (dots,) = figures.ranking(errors, Look()).data
    assert dots.y[0] == "pH" and dots.marker.symbol[0] == "circle-open" and "too few to rank" in dots.text[0]
    said = brief(snapshot, errors, None)
    assert f"{int((errors.drop('pH')['rmse_std'] > 1).sum())}<small> of" in said and "too rare" in said


def test_worse_than_frequency_is_called_worse(snapshot):
    bad = Presence(
        ("HR", "pH"),
        np.array(["p"] * 4),
        np.arange(4.0),
        np.full((4, 2), 0.9),
        np.array([[1, 0], [0, 0], [0, 1], [1, 0]], bool),
    )
    said = brief(snapshot, stats.by_variable(snapshot.frame), bad)
    assert "worse than frequency" in said and "better than" not in said


def test_lines_over_training_carry_their_step_and_break_where_a_variable_did_not_occur(snapshot):
    frame = stats.by_variable(snapshot.frame)
    history = History(np.array([100, 200, 300]), [frame, frame.drop("HR"), frame], [])
    figure = figures.over_training(history, ["HR", "Temp"], Look(), here=200)
    line = drawn(figure, "HR")
    assert (
        list(line.customdata) == [100, 200, 300]
        and np.isnan(line.y[1])
        and line.y[0] == pytest.approx(frame.loc["HR", "rmse_std"])
    )
    assert drawn(figure, "HR").line.color != drawn(figure, "Temp").line.color
    assert figures.unit_over_training(history, "HR", "bpm", 0, Look()).layout.yaxis.title.text == "bpm"
    assert "No snapshot" in words(figures.over_training(History(np.empty(0), [], []), ["HR"], Look()))


def test_the_predicted_density_is_drawn_only_where_there_is_one(snapshot):
    errors = snapshot.frame["error_in_std"].to_numpy(float)
    known = figures.distribution(errors, stats.predicted_spread(snapshot.frame), Look())
    bars, line = known.data
    width = bars.x[1] - bars.x[0]
    assert sum(bars.customdata) == np.isfinite(errors).sum() and sum(bars.y) * width == pytest.approx(1)
    assert sum(line.y) * width == pytest.approx(1, abs=0.01)
    assert len(figures.distribution(errors, np.full(len(errors), np.nan), Look()).data) == 1
    assert "7 events: too few" in words(figures.distribution(errors[np.isfinite(errors)][:7], np.ones(7), Look()))


def test_time_without_a_span_is_said(snapshot):
    assert "one time" in words(figures.by_time(stats.by_time(snapshot.frame.assign(hour=0.0)), Look()))
    figure = figures.by_time(stats.by_time(snapshot.frame), Look())
    assert figure.data[-1].marker.symbol[0] == "circle" and figure.layout.yaxis2.title.text == "events"


def test_calibration_without_uncertainty_is_said():
    bare = stats.z_scores(read(events()).frame)
    for figure in (
        calibration.coverage(stats.coverage(bare), Look()),
        calibration.pit(stats.pit(bare), Look()),
        calibration.z_histogram(bare, Look()),
    ):
        assert words(figure) == calibration.NO_STD


def test_calibration_is_drawn_against_what_would_be_right(snapshot):
    z = stats.z_scores(snapshot.frame)
    curve = drawn(calibration.coverage(stats.coverage(z), Look()), "this snapshot")
    assert np.abs(np.array(curve.y) - np.array(curve.x)).max() < 0.05
    assert max(drawn(calibration.z_histogram(z, Look()), "standard normal").y) == pytest.approx(0.3989, rel=0.02)
    assert np.mean(calibration.pit(stats.pit(z), Look()).data[0].y) == pytest.approx(1)


@pytest.mark.parametrize("look", LOOKS)
def test_a_record_has_a_row_for_each_variable_that_the_patient_has(snapshot, look):
    own = records.of_patient(snapshot, "p1")
    figure = records.record(own, snapshot, ["HR", "Temp", "unheard of"], look)
    assert own["hour"].is_monotonic_increasing
    assert [axis for axis in ("yaxis", "yaxis2", "yaxis3") if axis in figure.layout] == ["yaxis", "yaxis2"]
    assert "bpm" in figure.layout.yaxis.title.text and figure.layout.xaxis2.matches == "x"
    band = drawn(figure, "± 2 std")
    line = drawn(figure, "reconstructed")
    assert max(band.y) == pytest.approx(max(line.y) + 2 * 0.5 * 18, rel=1e-4), "two predicted standard deviations of 9 bpm"
    assert [trace.name for trace in figure.data if trace.showlegend] == ["± 2 std", "± 1 std", "reconstructed", "observed"]
    assert "None of these" in words(records.record(own, snapshot, ["unheard of"], look))


def test_a_constant_variable_shows_what_was_observed_and_nothing_else(snapshot):
    own = snapshot.frame[snapshot.frame["variable"] == CONSTANT].head(1)
    assert [trace.name for trace in records.record(own, snapshot, [CONSTANT], Look()).data] == ["observed"]
    single = snapshot.frame[snapshot.frame["variable"] == "HR"].head(1)
    assert records.record(single, snapshot, ["HR"], Look()).data[0].error_y.array[0] == pytest.approx(18.0)


def test_names_are_never_markup(snapshot):
    own = records.of_patient(snapshot, "p0")
    figure = records.record(own, snapshot, ["<b>Lactate"], Look())
    assert "&lt;b&gt;Lactate" in figure.layout.yaxis.title.text
    errors = stats.by_variable(snapshot.frame)
    for drawn in (figures.ranking(errors, Look()), figures.by_frequency(errors, Look())):
        (dots,) = drawn.data
        assert "<b>Lactate" in dots.customdata, "a click tells the name itself"
        shown = orjson.loads(drawn.to_json())["data"][0]
        words = [str(shown.get(name)) for name in ("y", "text", "hovertext")]
        assert "<b>" not in " ".join(words) and "customdata" not in dots.hovertemplate
    named = Presence(("<b>HR",), np.array(["p"]), np.zeros(1), np.ones((1, 1)), np.ones((1, 1), bool))
    assert list(records.presence_map(named, Look()).data[0].y) == ["&lt;b&gt;HR"]


def test_the_presence_map_leaves_gaps_empty_and_marks_what_occurred():
    found = Presence(("HR", "Temp"), np.array(["p"] * 4), np.array([0.0, 0.5, 0.5, 30.0]),
                     np.array([[0.9, 0.1], [0.2, 0.3], [0.4, 0.1], [0.8, 0.8]]), np.array([[1, 0], [0, 0], [0, 1], [1, 0]], bool))  # fmt: skip
    heat, dots = records.presence_map(found.of("p"), Look()).data
    shade = dict(zip(heat.y, heat.z, strict=True))
    assert len(heat.x) == len(shade["HR"]) + 1 and list(heat.x) == sorted(heat.x)
    known = [value for value in shade["HR"] if np.isfinite(value)]
    assert known == [0.9, 0.4, 0.8] and len(shade["HR"]) == 4, (
        "two sets of a moment are one column, 29 hours of nothing an empty one"
    )
    assert sorted(zip(dots.x, dots.y, strict=True)) == [(0.0, "HR"), (0.5, "Temp"), (30.0, "HR")]
    assert "no set" in words(records.presence_map(found.of("q"), Look()))


def test_presence_charts_of_a_snapshot():
    found = expected_presence(events())
    chart = calibration.reliability(reliability(found), Look())
    assert sum(chart.data[-1].y) == found.probability.size
    dots = calibration.presence_skill(skill(found), Look()).data[0]
    assert list(dots.x) == sorted(dots.x) and "never" not in list(dots.y)


def test_tables_say_units_and_leave_unknown_outcomes_empty(snapshot):
    table = variable_frame(stats.by_variable(snapshot.frame), snapshot)
    assert table["variable"].iloc[-1] == CONSTANT and np.isnan(table["rmse"].iloc[-1])
    unit = table.set_index("variable")["unit"]
    assert unit["HR"] == "bpm" and unit["pH"] == "unit unknown"
    patients = patient_frame(stats.by_patient(snapshot.frame), {"p1": 1.0})
    outcome = patients.set_index("stay")["outcome"]
    assert outcome["p1"] == 1 and outcome["p2"] is pd.NA


def test_what_is_not_reconstructed_is_named(snapshot):
    errors = stats.by_variable(snapshot.frame)
    told = notes(snapshot, errors, ["reconstruction/step-000000200.parquet: no readable parquet"], "likelihood")
    assert CONSTANT in told and "step-000000200" in told and "No uncertainty" not in told
    bare = read(events())
    assert "The chamfer decoder" in notes(bare, stats.by_variable(bare.frame), [], "chamfer")
    shown = brief(snapshot, errors, None)
    assert "not recorded" in shown and f"of {len(VARIABLES)} variables" in shown


@pytest.mark.parametrize(
    ("monitor", "steps", "said"),
    [({}, None, "after step 200,"), ({}, 10_000, "after step 200,"), ({}, 300, "after step 15,"), ({}, 3, "after step 1,"),
     ({"fast_detection": True}, 10_000, "after step 100,"), ({"update_frequency": 1500}, 300, "after step 1,500,"),
     ({"disable_metrics_monitoring": True}, None, "--disable_metrics_monitoring"), ("nonsense", None, "after step 200,")],
)  # fmt: skip
def test_when_the_first_snapshot_is_due(monitor, steps, said):
    assert said in first_due({"monitor": monitor}, steps)
