"""Alignment, smoothing and averaging of curves, against values worked out by hand; and the figures made of them, as data."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest

from dashboard.charts import Look, packed
from dashboard.compare.cards import chart
from dashboard.compare.choice import choose, listed
from dashboard.compare.config import Difference, differing, groups, value_text
from dashboard.compare.curves import Group, averaged, clock, elapsed, left_out, lines, onset, smoothed
from dashboard.compare.view import MOST_RUNS, View
from dashboard.overview.entries import RunEntry
from dashboard.overview.summaries import Summaries
from dashboard.runs import curves as running
from shared.schema import RunState
from tests.compared import compared_run, line_rows, loaded, sweep
from tests.plotted import unpacked
from tests.run_factory import make_run

LOSS = ("training", "loss")


def test_steps_become_epochs_times_and_steps_since_the_verdict(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", rows=line_rows(1.0), steps=100)
    compared_run(tmp_path, "timed", rows=[row | {"time": 1e9 + 3 * row["step"]} for row in line_rows(1.0)], steps=100)
    make_run(tmp_path, "collapsed", collapse=True)
    plain, collapsed, timed = loaded(tmp_path, "a", "collapsed", "timed").runs
    asked = np.array([1.0, 50.0, 100.0])
    expected = {"step": asked, "epoch": asked / 50, "time": asked / 2}
    for alignment, places in expected.items():
        place = clock(plain.snapshot, alignment)
        assert not isinstance(place, str)
        np.testing.assert_allclose(place(asked), places)
    place = clock(timed.snapshot, "time")
    assert not isinstance(place, str)
    np.testing.assert_allclose(place(asked), 3 * (asked - 1)), "by the clock, from the first step"
    first = onset(collapsed.snapshot)
    assert first is not None and 0 < first < 1000
    since = clock(collapsed.snapshot, "onset")
    assert not isinstance(since, str) and since(np.array([float(first)])) == 0
    assert left_out([plain, collapsed], "onset") == {"a": "no alarm or warning"}
    assert lines(groups([plain], False), LOSS, View(x="onset")) == []


def test_times_of_a_log_with_gaps(tmp_path: Path) -> None:
    rows = [row for row in line_rows(1.0) if row["step"] % 10 == 0]
    compared_run(tmp_path, "a", rows=rows, steps=100)
    steps, seconds = elapsed(loaded(tmp_path).runs[0].snapshot)
    assert seconds[-1] - seconds[0] == pytest.approx(0.5 * (steps[-1] - steps[0])), "a step that was not logged took time too"


def test_smoothing_is_the_weighted_mean_it_says() -> None:
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.integers(1, 5, 200)).astype(float)
    values = rng.standard_normal(200)
    values[50] = np.nan
    got = smoothed(steps, values, 20)
    for at in (0, 1, 49, 51, 199):
        weights = np.exp((steps[: at + 1] - steps[at]) / 20) * np.isfinite(values[: at + 1])
        assert got[at] == pytest.approx(np.nansum(weights * np.nan_to_num(values[: at + 1])) / weights.sum(), abs=1e-4)
    assert np.isnan(got[50]) and smoothed(steps, values, 0) is values


def test_seeds_are_joined_to_mean_and_band_where_all_have_data(tmp_path: Path) -> None:
    sweep(tmp_path)
    runs = loaded(tmp_path).runs
    joined = groups(runs, True)
    assert [group.label for group in joined] == ["3 seeds: beta_max 0.1", "3 seeds: beta_max 2"]
    assert [len(group.members) for group in joined] == [3, 3] and len(groups(runs, False)) == 6
    line = lines(joined, LOSS, View(group="minmax"))[0]
    assert line.low is not None and line.high is not None and line.present == 3
    np.testing.assert_allclose([line.y, line.low, line.high], np.outer([2, 1, 3], line.x), rtol=0.02)
    band = lines(joined, LOSS, View(group="sd"))[0]
    assert band.high is not None
    np.testing.assert_allclose(
        band.high - band.y, line.x, rtol=0.03, err_msg="seeds 1, 2 and 3 times the step deviate by 1 time the step"
    )


def test_seeds_that_lack_a_metric_are_counted(tmp_path: Path) -> None:
    sweep(tmp_path)
    (tmp_path / "b2.0-s1" / "metrics.jsonl").unlink()
    made = chart(groups(loaded(tmp_path).runs, True), LOSS, View(group="sd"), Look())
    assert made.note == "2 of 3 seeds: beta_max 2"


def test_the_mean_ends_where_the_first_seed_ends() -> None:
    group = Group("g", ())
    short, long = (np.arange(1.0, 11), np.ones(10)), (np.arange(5.0, 101), np.full(96, 3.0))
    found = averaged(group, [short, long], "minmax")
    assert found is not None and found.x[0] >= 5 and found.x[-1] <= 10 and (found.y == 2).all()
    assert averaged(group, [short, (np.arange(20.0, 30), np.ones(10))], "sd") is None


def test_a_gap_in_one_seed_is_a_gap_in_the_mean() -> None:
    x = np.arange(1.0, 21)
    holed = np.where(x == 10, np.nan, 1.0)
    found = averaged(Group("g", ()), [(x, holed), (x, np.ones(20))], "minmax")
    assert found is not None and np.isnan(found.y[np.abs(found.x - 10) < 0.5]).all() and np.isfinite(found.y[[0, -1]]).all()


@pytest.mark.parametrize("kept", [2**17, 4000], ids=["every value in memory", "only the extremes in memory"])
def test_mean_smoothing_and_time_of_a_long_run_are_those_of_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(running, "MOST_POINTS", kept)
    draws = np.random.default_rng(0).exponential(1.0, (3, 20_000))
    for seed, values in enumerate(draws):
        rows = [{"step": step, "loss": value, "step_s": value} for step, value in enumerate(values, start=1)]
        compared_run(tmp_path, f"s{seed}", {"trainer.seed": seed}, rows, steps=10)
    runs = loaded(tmp_path).runs
    assert (len(runs[0].snapshot.series(*LOSS)[0]) < 20_000) is (kept < 20_000)
    for grouping, low, high in (("minmax", draws.mean(1).min(), draws.mean(1).max()), ("sd", None, None)):
        line = lines(groups(runs, True), LOSS, View(group=grouping))[0]
        assert line.low is not None and line.high is not None
        assert line.y.mean() == pytest.approx(draws.mean(), rel=0.01)
        assert (
            line.y.mean() == pytest.approx((line.low + line.high).mean() / 2, rel=0.02) and (line.high - line.low).mean() < 0.4
        )
        assert low is None or line.low.mean() < low < high < line.high.mean()
    alone = lines(groups(runs, False), LOSS, View(smooth=2000))[0]
    weights = np.exp(np.arange(-19_999, 1) / 2000)
    assert alone.y[-1] == pytest.approx((weights * draws[0]).sum() / weights.sum(), rel=0.01)
    steps, seconds = elapsed(runs[0].snapshot)
    assert (steps[0], steps[-1]) == (1, 20_000) and seconds[-1] == pytest.approx(draws[0].sum(), rel=0.01)


def test_settings_that_differ_and_nothing_else(tmp_path: Path) -> None:
    sweep(tmp_path)
    runs = loaded(tmp_path, "b0.1-s0", "b2.0-s1").runs
    found = differing([run.snapshot for run in runs])
    assert found == {"loss.beta_max": [0.1, 2.0], "trainer.seed": [0, 1]}
    few = Difference(tuple(run.name for run in runs), found).html()
    assert few.count("sv-changed") == 2 and few.count("≠") == 2 and few.index("b0.1-s0") < few.index("beta_max"), (
        "runs are columns"
    )
    many = loaded(tmp_path).runs * 2
    rows = Difference(tuple(run.name for run in many), differing([run.snapshot for run in many])).html()
    assert rows.index("beta_max") < rows.index("b0.1-s0") and rows.count("<tr>") == 13, "runs are rows"


def test_values_of_settings_in_words() -> None:
    assert [value_text(value) for value in (None, True, 1e-5, 12345, [1, 2.5], "cosine")] == [
        "none",
        "on",
        "1.00e−05",
        "12,345",
        "1, 2.5",
        "cosine",
    ]


def test_fifty_curves_stay_small_and_keep_their_spikes(tmp_path: Path) -> None:
    rows = line_rows(0.0, steps=5000)
    rows[3210]["loss"] = 99.0
    compared_run(tmp_path, "a", rows=rows, steps=10)
    run = loaded(tmp_path).runs[0]
    fifty = [Group(f"run {number}", (run,)) for number in range(50)]
    made = chart(fifty, LOSS, View(), Look()).figure
    assert len(made["data"]) == 50
    x, y = unpacked(made["data"][0]["x"]), unpacked(made["data"][0]["y"])
    assert len(x) <= 420 and y.max() == 99 and x[y.argmax()] == 3211 and made["layout"]["hovermode"] == "closest"


def test_colours_and_names_of_the_lines(tmp_path: Path) -> None:
    evil = "<b>a"
    make_run(tmp_path, evil, steps=100)
    make_run(tmp_path, "created", state=RunState.CREATED)
    found = loaded(tmp_path)
    for dark in (False, True):
        made = chart(groups(found.runs, False), LOSS, View(), Look(dark=dark))
        assert made.note == "not in: created" and made.title == "Total loss, training"
        trace = made.figure["data"][0]
        assert trace["name"] == "&lt;b&gt;a" and trace["meta"] == evil
        run = next(run for run in found.runs if run.name == evil)
        assert trace["line"]["color"] == run.style.colour(dark) and trace["line"]["dash"] == run.style.dash
    assert made.figure["layout"]["yaxis"]["title"]["text"] == "weighted nats"


def test_axes_say_what_they_are_and_zoom_belongs_to_them(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", collapse=True)
    rows = [orjson.loads(line) | {"epoch": 1.0 + at / 400} for at, line in enumerate(layout.metrics.read_bytes().splitlines())]
    layout.metrics.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    joined = groups(loaded(tmp_path).runs, False)
    made = {x: chart(joined, LOSS, View(x=x), Look()).figure["layout"] for x in ("step", "epoch", "time", "onset")}
    assert [layout["xaxis"]["title"]["text"] for layout in made.values()] == [
        "optimizer step", "epoch", "time since the first step (min)", "steps since the first alarm or warning",
    ]  # fmt: skip
    assert len({layout["uirevision"] for layout in made.values()}) == 4
    smooth = chart(joined, LOSS, View(smooth=100), Look()).figure["data"]
    assert [trace.get("opacity") for trace in smooth] == [0.25, None], "the values themselves stay behind the average"


def test_numbers_travel_exactly_or_short() -> None:
    assert packed(np.array([1.0, 3_000_000.0]))["dtype"] == "i4" and packed(np.array([0.5, np.nan]))["dtype"] == "f4"
    assert unpacked(packed(np.array([1.0, 3_000_001.0]))).tolist() == [1, 3_000_001]
    assert packed(np.empty(0))["bdata"] == ""


def test_only_a_filter_waits_for_the_logs_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, "a", steps=10)
    read: list[Path] = []
    monkeypatch.setattr(RunEntry, "read_logs", lambda entry: read.append(entry.layout.root))
    summaries = Summaries(tmp_path)
    assert choose(View(), listed(View(), summaries)).names == ("a",) and summaries.names() == ["a"] and not read
    assert len(listed(View(filter="auroc>0.5"), summaries)) == 1 and read


def test_which_runs_are_compared(tmp_path: Path) -> None:
    for number in range(MOST_RUNS + 3):
        make_run(tmp_path, f"run-{number:03d}", steps=2, age=timedelta(hours=number))
    make_run(tmp_path, "just-created", state=RunState.CREATED, age=timedelta(0))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    runs = Summaries(tmp_path).all()
    assert choose(View(), runs).newest and choose(View(), runs).names == tuple(f"run-{number:03d}" for number in range(5))
    many = choose(View(filter="run-*"), runs)
    assert len(many.names) == MOST_RUNS and many.beyond == 3 and not many.newest
    both = choose(View(run=("gone", "run-001"), filter="run-00?"), runs)
    assert both.names[:2] == ("gone", "run-001") and both.by_filter == 9
    wrong = choose(View(filter="state:asleep"), runs)
    assert wrong.names == () and "no such state" in (wrong.problem or "")
    found = loaded(tmp_path, "gone", "broken", "run-001", "../elsewhere")
    assert [run.name for run in found.runs] == ["run-001"]
    assert set(found.missing) == {"gone", "broken", "../elsewhere"} and "not valid JSON" in found.missing["broken"]
