"""The Live page as data: axes, smoothing, parts of long runs, sections, and what of a run it names as missing."""

import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard.charts import Look
from dashboard.live import dimensions, panels, windows
from dashboard.live.axes import AxisKind, axis_of
from dashboard.live.cards import SECTIONS, cards, others, split
from dashboard.live.panels import View
from dashboard.runs import curves
from dashboard.runs.loading import Snapshot, Store
from dashboard.runs.verdicts import remedies
from shared.panels import POSTERIOR
from shared.schema import RunState
from shared.writer import encode_line
from tests.plotted import plotted
from tests.run_factory import make_run


def snapshot_of(runs: Path, name: str = "a") -> Snapshot:
    found = Store(runs, lambda _name: 1).snapshot(name)
    assert found is not None
    return found


def logged(runs: Path, values: Callable[[int], dict[str, object]], steps: int) -> Snapshot:
    """A run whose step log is these values."""
    layout = make_run(runs, "a", steps=2)
    layout.metrics.write_bytes(b"".join(encode_line(step, values(step)) for step in range(1, steps + 1)))
    return snapshot_of(runs)


def test_epochs_and_times_and_back(tmp_path: Path) -> None:
    snapshot = logged(tmp_path, lambda step: {"loss": 1.0, "epoch": step / 10, "time": 1_760_000_000.0 + 2 * step}, 100)
    epoch, time = axis_of(snapshot, "epoch"), axis_of(snapshot, "time")
    assert epoch.title == "epoch" and epoch.at(25).item() == 2.5 and epoch.steps_at(2.5).item() == pytest.approx(25)
    assert time.dates and time.at(50).item() == 1000 * (1_760_000_000 + 100)
    assert axis_of(snapshot, "step").at(np.array([7.0])).tolist() == [7.0]


def test_axes_that_a_log_lacks_say_so(tmp_path: Path) -> None:
    bare = logged(tmp_path, lambda step: {"loss": 1.0}, 10)
    assert "no epochs" in axis_of(bare, "epoch").title and "no times" in axis_of(bare, "time").title
    (tmp_path / "b").mkdir()
    timed = logged(tmp_path / "b", lambda step: {"loss": 1.0, "step_s": 36.0}, 100)
    hours = axis_of(timed, "time")
    assert hours.title.startswith("hours of training") and hours.at(100).item() == pytest.approx(1.0)


def test_a_clock_set_back_stands_still(tmp_path: Path) -> None:
    snapshot = logged(tmp_path, lambda step: {"loss": 1.0, "time": 1000.0 + (step if step < 50 else step - 30)}, 100)
    assert (np.diff(axis_of(snapshot, "time").places) >= 0).all()


def test_smoothing_is_drawn_over_the_raw_curve(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=500)
    drawn = plotted(panels.figure(snapshot_of(tmp_path), POSTERIOR[3], Look(), View(span=50))).data
    assert [trace.meta for trace in drawn] == ["training:recon", "training:recon:smooth", "probe:recon"]
    assert "mean of about 50 steps" in drawn[1].name and not drawn[0].showlegend
    assert np.std(np.diff(np.asarray(drawn[1].y)[100:])) < np.std(np.diff(np.asarray(drawn[0].y)[100:])) / 5


def test_marks_move_with_the_axis(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=900, collapse=True)
    snapshot = snapshot_of(tmp_path)
    began = next(verdict.began for verdict in snapshot.verdicts if verdict.severity == "alarm")
    lines = [
        shape
        for shape in plotted(panels.figure(snapshot, POSTERIOR[0], Look(), View(axis="time"))).layout.shapes
        if shape.xref == "x"
    ]
    assert lines and lines[0].x0 == pytest.approx(axis_of(snapshot, "time").at(float(began or 0)).item())
    assert any(shape.xref == "x" for shape in plotted(panels.figure(snapshot, SECTIONS[2].panels[0], Look())).layout.shapes), (
        "on every chart"
    )


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """20,000 steps in memory for 2,000."""
    monkeypatch.setattr(curves, "MOST_POINTS", 2000)
    return logged(tmp_path, lambda step: {"loss": float(step % 97), "epoch": step / 1000, "stays": 8, "step_s": 0.5}, 20_000)


def test_a_part_of_a_long_run_is_whole(long_run: Snapshot) -> None:
    assert len(long_run.series("training", "loss")[0]) <= 2000
    client = TestClient(Starlette(routes=[windows.route({"a": long_run}.get, windows.Windows())]))
    found = client.get(
        "/series?run=a&metric=training:loss&metric=training:stays_per_s&axis=step&smooth=0&from=9000&to=9500"
    ).json()
    assert found[0]["x"] == list(range(8999, 9502)) and found[0]["y"] == [float(step % 97) for step in range(8999, 9502)]
    assert set(found[1]["y"]) == {16.0}
    by_epoch = client.get("/series?run=a&metric=training:loss&axis=epoch&smooth=0&from=9&to=9.5").json()
    assert by_epoch[0]["y"] == found[0]["y"] and by_epoch[0]["x"][1] == pytest.approx(9.0)
    smooth = client.get("/series?run=a&metric=training:loss:smooth&axis=step&smooth=500&from=9000&to=9500").json()
    assert np.allclose(smooth[0]["y"], 48, atol=8), "an average has a past"


def test_a_part_too_long_to_be_read_is_shown_whole(long_run: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    part, seen = windows.Part(9000, 9900), windows.Windows()
    assert len(seen.series(long_run, "training", "loss", part)[0]) == 903
    monkeypatch.setattr(windows, "MOST_BYTES", 10_000)
    for snapshot in (long_run, replace(long_run, reading=0.5)):
        x, y = windows.Windows().series(snapshot, "training", "loss", part)
        assert x[0] <= 9000 and x[-1] >= 9900 and (y.min(), y.max()) == (0, 96)


def test_an_unknown_metric_is_not_looked_for(long_run: Snapshot) -> None:
    long_run.status.layout.metrics.unlink()
    part, seen = windows.Part(9000, 9100), windows.Windows()
    assert len(seen.series(long_run, "training", "none", part)[0]) == 0
    with pytest.raises(FileNotFoundError):
        seen.series(long_run, "training", "loss", part)


def test_one_part_is_read_while_another_is_and_few_are_kept(long_run: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "KEPT_BYTES", 40_000)
    both, between = threading.Barrier(2), windows.between

    def together(*asked: Any) -> bytes | None:
        both.wait(timeout=10)
        return between(*asked)

    monkeypatch.setattr(windows, "between", together)
    seen = windows.Windows()
    parts = [windows.Part(first, first + 500) for first in (1000, 5000)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda part: seen.series(long_run, "training", "loss", part), parts))
    assert [series[0][1] for series in found] == [1000, 5000]
    monkeypatch.setattr(windows, "between", between)
    for first in range(6000, 12_000, 1000):
        seen.series(long_run, "training", "loss", windows.Part(first, first + 500))
    assert 0 < seen.bytes <= 80_000


@pytest.mark.parametrize("part", [windows.Part(1, 20_000), windows.Part(19_000, 19_500)], ids=["from memory", "from the log"])
def test_smoothing_a_part_is_not_bent_by_spikes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: windows.Part) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", 2000)
    draws = np.random.default_rng(0).exponential(1.0, 20_000)
    snapshot = logged(tmp_path, lambda step: {"loss": draws[step - 1]}, 20_000)
    x, y = windows.Windows().series(snapshot, "training", "loss", part, 2000.0)
    at = int(x[-1])
    weights = np.exp(np.arange(-at + 1, 1) / 2000)
    assert y[-1] == pytest.approx((weights * draws[:at]).sum() / weights.sum(), rel=0.01)


def test_what_is_not_finite_is_a_gap_in_a_part_too(tmp_path: Path) -> None:
    snapshot = logged(tmp_path, lambda step: {"loss": float("nan") if step == 5 else 1.0}, 9)
    client = TestClient(Starlette(routes=[windows.route({"a": snapshot}.get, windows.Windows())]))
    assert client.get("/series?run=a&metric=training:loss&smooth=0&from=1&to=9").json()[0]["y"].index(None) == 4


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("run=a&metric=training:loss&smooth=0&from=1&to=nan", 400), ("run=a&metric=training:loss&smooth=0&from=1", 400),
        ("run=a&metric=other:loss&smooth=0&from=1&to=2", 400), ("run=a&smooth=0&from=1&to=2", 400),
        ("run=a&metric=training:loss&axis=no&smooth=0&from=1&to=2", 400), ("run=a&metric=training:loss&smooth=-1&from=1&to=2", 400),
        ("run=a&metric=training:loss&smooth=0&from=3&to=2", 400), ("run=../a&metric=training:loss&smooth=0&from=1&to=2", 404),
        ("run=a&metric=training:none&smooth=0&from=1&to=2", 200), ("run=a&metric=probe:kl&smooth=0&from=1&to=2", 200),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense(tmp_path: Path, query: str, status: int) -> None:
    make_run(tmp_path, "a", steps=5)
    client = TestClient(Starlette(routes=[windows.route(Store(tmp_path, lambda _name: 1).snapshot, windows.Windows())]))
    assert client.get(f"/series?{query}").status_code == status


def test_a_snapshot_remembers_the_newest_figures_alone(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=5)
    snapshot = snapshot_of(tmp_path)
    assert [snapshot.once(key, lambda key=key: -key) for key in range(1000)] == [-key for key in range(1000)]  # type: ignore[misc]
    assert snapshot.once(999, lambda: 0) == -999 and snapshot.once(1, lambda: 0) == 0 and len(snapshot.drawn) == 128


def test_the_onset_of_a_collapse_is_drawn_over_the_dimensions(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=900, collapse=True)
    snapshot = snapshot_of(tmp_path)
    snapshot = replace(snapshot, dimensions=(np.array([100.0, 400.0, 800.0]), np.ones((3, 4))))
    began = [float(one.began) for one in (*snapshot.verdicts, *snapshot.past) if one.began and one.severity == "alarm"]
    drawn = plotted(dimensions.dimension_figure(snapshot, Look(), View())).layout
    assert began and {*began} <= {shape.x0 for shape in drawn.shapes if shape.layer == "above"}
    assert any("ollapse" in note.text for note in drawn.annotations)
    hours = plotted(dimensions.dimension_figure(snapshot, Look(), View(axis="time"))).layout.shapes
    assert axis_of(snapshot, "time").at(min(began)).item() in [pytest.approx(shape.x0) for shape in hours]


def test_sections_of_a_run(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=300)
    snapshot = snapshot_of(tmp_path)
    for section in SECTIONS:
        for card in cards(snapshot, section, Look(), View()):
            assert card["title"] and card["help"] and card["window"].startswith("series?run=a&axis=step")
            assert orjson.loads(card["figure"])["data"] or card["key"] == "kl_dimensions"
    assert others(snapshot) is None


def test_an_ended_run_names_what_it_never_recorded(tmp_path: Path) -> None:
    outcome = next(section for section in SECTIONS if section.key == "outcome")
    for state, words in ((RunState.FINISHED, {"AUROC", "AUPRC", "Accuracy"}), (RunState.RUNNING, set())):
        layout = make_run(tmp_path, state.value, steps=60, state=state)
        layout.evaluations.write_bytes(b"")
        drawn, missing = split(snapshot_of(tmp_path, state.value), outcome)
        assert {panel.info.label for panel in missing} == words and len(drawn) + len(missing) == 3


def test_metrics_of_the_runs_own_are_shown(tmp_path: Path) -> None:
    snapshot = logged(tmp_path, lambda step: {"loss": 1.0, "my/<b>metric</b>": float(step), "text": "words"}, 20)
    section = others(snapshot)
    assert section is not None and [panel.metric for panel in section.panels] == ["my/<b>metric</b>"]
    assert "under this name" in cards(snapshot, section, Look(), View())[0]["help"]


def test_dimensions_over_steps(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=4)
    rows = [{"kind": "probe", "per_dim": {"kl": [0.5, 0.001 * step, 2.0]}} for step in (1, 2, 3)]
    layout.evaluations.write_bytes(b"".join(encode_line(step, row) for step, row in enumerate(rows, start=1)))
    (trace,) = plotted(dimensions.dimension_figure(snapshot_of(tmp_path), Look(), View())).data
    assert list(trace.y) == ["2", "0", "1"] and list(trace.x) == [1, 2, 3]
    assert np.asarray(trace.customdata)[0].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("kind", ["step", "time"])
def test_one_evaluation_is_one_column(tmp_path: Path, kind: AxisKind) -> None:
    rows = (encode_line(step, {"loss": 1.0, "time": 1.7e9 + step}) for step in (1, 125))
    make_run(tmp_path, "a", steps=2).metrics.write_bytes(b"".join(rows))
    snapshot = replace(snapshot_of(tmp_path), dimensions=(np.array([125.0]), np.array([[0.5, 0.02, 0.3]])))
    drawn = plotted(dimensions.dimension_figure(snapshot, Look(), View(axis=kind)))
    (trace,) = drawn.data
    place = axis_of(snapshot, kind).at(125).item()
    assert np.shape(trace.z) == (3, 1) and trace.y == ("0", "2", "1") and not drawn.layout.annotations
    assert trace.x[0] < place < trace.x[1] and sum(trace.x) / 2 == pytest.approx(place)


def test_runs_without_dimensions_say_so(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=200)
    assert (
        "do not list" in plotted(dimensions.dimension_figure(snapshot_of(tmp_path), Look(), View())).layout.annotations[0].text
    )


def test_remedies_are_those_of_alarms(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=900, collapse=True)
    assert "beta_cut" in remedies(snapshot_of(tmp_path).verdicts)
    make_run(tmp_path, "b", steps=900)
    assert remedies(snapshot_of(tmp_path, "b").verdicts) == []


def test_long_curves_are_thinned_before_they_are_sent(long_run: Snapshot) -> None:
    card = cards(long_run, SECTIONS[2], Look(), View())[0]
    y = orjson.loads(card["figure"])["data"][0]["y"]
    assert len(base64.b64decode(y["bdata"])) // np.dtype(y["dtype"]).itemsize <= 2000
