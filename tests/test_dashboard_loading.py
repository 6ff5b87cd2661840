"""Reading runs for the pages: piece by piece, through damage and resumes, shared, bounded, and never outside the folder."""

import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from dashboard.overview.summaries import Summaries
from dashboard.runs import curves, loading, runlog
from dashboard.runs.loading import Store, resolve_run
from dashboard.runs.runlog import Dimensions, RunLog
from dashboard.runs.snapshot import Snapshot
from shared.columns import Columns
from shared.layout import RunLayout
from shared.reader import Health, JsonlTail
from shared.schema import RunState
from shared.writer import JsonlWriter, cut_after_step, encode_line
from tests.run_factory import GONE_PID, beat, make_run, make_zoo


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose revision is always new, so that every snapshot reads."""
    return Store(tmp_path, lambda _name: time.monotonic_ns())


def steps_of(snapshot: Snapshot) -> np.ndarray:
    """Steps at which the loss was logged, be it as NaN."""
    return snapshot.series("training", "loss")[0]


def test_rows_arrive_as_they_are_written(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=10)
    first = store.snapshot("a")
    writer = JsonlWriter(layout.metrics)
    writer.write(11, {"loss": 3.5, "new_metric": 7.0})
    second = store.snapshot("a")
    assert first is not None and second is not None
    assert steps_of(first).tolist() == list(range(1, 11)), "an older snapshot must not change"
    assert steps_of(second).tolist() == list(range(1, 12))
    assert second.latest("training", "loss") == 3.5
    assert second.series("training", "new_metric")[0].tolist() == [11]


def test_same_revision_reads_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=5)
    store = Store(tmp_path, lambda _name: 1)
    first = store.snapshot("a")
    JsonlWriter(RunLayout(tmp_path / "a").metrics).write(6, {"loss": 1.0})
    assert store.snapshot("a") is first


def test_half_a_line_waits_for_its_end(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    line = encode_line(6, {"loss": 1.0})
    with layout.metrics.open("ab", buffering=0) as file:
        file.write(line[:10])
        half = store.snapshot("a")
        file.write(line[10:])
    whole = store.snapshot("a")
    assert half is not None and whole is not None
    assert (len(steps_of(half)), len(steps_of(whole))) == (5, 6)
    assert not whole.problems


def test_resume_replaces_the_log(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=100, nan_from=60)
    before = store.snapshot("a")
    assert before is not None and before.nonfinite["loss"].first == 60
    cut_after_step(layout.metrics, 50)
    JsonlWriter(layout.metrics).write(51, {"loss": 2.0})
    after = store.snapshot("a")
    assert after is not None
    assert steps_of(after).tolist() == list(range(1, 52))
    assert not after.nonfinite


def test_broken_line_is_named_and_costs_only_itself(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=20)
    lines = layout.metrics.read_bytes().splitlines(keepends=True)
    layout.metrics.write_bytes(b"".join([*lines[:7], b"{oops\n", *lines[7:]]))
    snapshot = store.snapshot("a")
    assert snapshot is not None
    assert len(steps_of(snapshot)) == 20
    assert len(snapshot.problems) == 1 and "line 8" in snapshot.problems[0]


def test_not_finite_is_a_gap_and_not_measured_is_not(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=3)
    layout.metrics.write_bytes(
        encode_line(1, {"loss": 1.0, "active_units": None})
        + encode_line(2, {"loss": float("nan"), "active_units": 3})
        + encode_line(3, {"loss": 2.0, "active_units": None})
    )
    snapshot = store.snapshot("a")
    assert snapshot is not None
    steps, loss = snapshot.series("training", "loss")
    assert steps.tolist() == [1, 2, 3] and np.isnan(loss[1])
    assert snapshot.series("training", "active_units")[0].tolist() == [2]
    assert snapshot.latest("training", "loss") == 2.0


def test_of_a_hundred_thousand_steps_only_new_ones_are_read(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_run(tmp_path, "a", steps=1)
    line = {"loss": 1.5, "recon": 1.0, "kl": 0.5, "beta": 0.1, "lr": 1e-3, "grad_norm": 1.0, "step_s": 0.1, "stays": 8}
    layout.metrics.write_bytes(b"".join(encode_line(step, line) for step in range(1, 100_001)))
    snapshot = store.snapshot("a")
    assert snapshot is not None and len(steps_of(snapshot)) == 100_000
    read, read_columns = [], JsonlTail.read_columns

    def counted(tail: JsonlTail, limit: int | None = None) -> Columns:
        columns = read_columns(tail, limit)
        read.append(len(columns))
        return columns

    monkeypatch.setattr(JsonlTail, "read_columns", counted)
    JsonlWriter(layout.metrics).write(100_001, line)
    assert store.snapshot("a") is not None and sum(read) == 1


def test_store_is_bounded(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(6):
        make_run(tmp_path, f"run-{index}", steps=200)
        store.snapshot(f"run-{index}")
    assert len(store._logs) == 6
    monkeypatch.setattr(loading, "MAX_OPEN_RUNS", 4)
    store.snapshot("run-5")
    assert len(store._logs) == 4
    monkeypatch.setattr(loading, "MAX_BYTES", 2 * store._logs["run-5"].bytes)
    store.snapshot("run-5")
    assert list(store._logs) == ["run-4", "run-5"]


def test_a_large_log_is_sampled_and_then_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_run(tmp_path, "a", steps=3000, nan_from=2990)
    monkeypatch.setattr(runlog, "LARGE_BYTES", 1000)
    monkeypatch.setattr(runlog, "SAMPLE_LINES", 50)
    monkeypatch.setattr(runlog, "PIECE_BYTES", 20_000)
    told = threading.Event()
    run = RunLog(layout, told.set)
    sample = run.snapshot(1)
    assert sample.reading is not None and sample.last_step == 3000
    assert 0 < len(steps_of(sample)) <= 50 and steps_of(sample)[0] == 1
    JsonlWriter(layout.metrics).write(3001, {"loss": 1.0})
    whole, revision = sample, 1
    while whole.reading is not None:
        assert told.wait(60)
        told.clear()
        revision += 1
        whole = run.snapshot(revision)
    assert steps_of(whole).tolist() == list(range(1, 3002))
    assert whole.nonfinite["loss"].first == 2990 and whole.curves_token != sample.curves_token


def test_a_long_curve_keeps_every_spike_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", 2000)
    monkeypatch.setattr(curves, "MOST_MEANS", 256)
    rng, grown = np.random.default_rng(0), curves.Series()
    y = rng.standard_normal(50_000)
    y[[123, 30_001]], y[40_000] = (500, -500), np.nan
    x = np.arange(1.0, len(y) + 1)
    early = None
    for start in range(0, len(y), 777):
        grown.extend(x[start : start + 777], y[start : start + 777])
        early = early or grown.view()
    assert early is not None and early.x.tolist() == x[:777].tolist(), "a view does not change"
    view = grown.view()
    assert len(view.x) <= 2000 and (np.diff(view.x) > 0).all() and view.width > 0
    assert {500.0, -500.0} <= set(view.y) and np.isnan(view.y[view.x == 40_001]).all() and 40_001 in view.x
    assert view.x[-1] == 50_000
    at, means = view.means
    assert len(at) <= 256 and abs(np.average(means) - np.nanmean(y)) < 0.01
    np.testing.assert_allclose(
        means[0], y[at < at[0] * 2].mean() if len(at) == len(y) else np.nanmean(y[: round(2 * at[0]) - 1])
    )


def test_single_rows_grow_a_long_curve_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", 200)
    grown = curves.Series()
    for step in range(1, 1500):
        grown.extend(np.array([float(step)]), np.array([float(step % 7)]))
    view = grown.view()
    assert len(view.x) <= 200 and view.x[-1] == 1499 and view.y.max() == 6 and (np.diff(view.x) > 0).all()


def test_dimensions_are_thinned_by_joining_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "MOST_DIMENSION_ROWS", 8)
    found = Dimensions()
    for step in range(40):
        found.add(step, [float(step), None])
    found.add(40, [1.0])
    found.add(41, "damaged")
    steps, kl = found.view()
    assert len(steps) == len(kl) <= 8 and steps[0] == 0 and (np.diff(kl[:, 0]) > 0).all() and np.isnan(kl[:, 1]).all()


def test_many_readers_see_whole_rows(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=1)
    run, bad = RunLog(layout), []

    def read() -> None:
        for _ in range(30):
            snapshot = run.snapshot(time.monotonic_ns())
            if steps_of(snapshot).tolist() != list(range(1, len(steps_of(snapshot)) + 1)):
                bad.append(steps_of(snapshot))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    writer = JsonlWriter(layout.metrics)
    for step in range(2, 400):
        writer.write(step, {"loss": 1.0})
    for thread in threads:
        thread.join()
    assert not bad


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../outside", "a/../../outside", "/etc", "a/b", "..\\x", "a\0b", ".hidden", "no-such", "link"]
)
def test_only_folders_directly_below_runs(tmp_path: Path, name: str) -> None:
    runs = tmp_path / "runs"
    make_run(tmp_path, "outside", steps=1)
    make_run(runs, "a", steps=1)
    (runs / ".hidden").mkdir()
    (runs / "link").symlink_to(tmp_path / "outside")
    assert resolve_run(runs, name) is None
    assert resolve_run(runs, "a") is not None
    assert Store(runs, lambda _name: 0).snapshot(name) is None


def test_every_state_has_a_summary(tmp_path: Path) -> None:
    make_zoo(tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    make_run(outside, "secret", steps=1)
    (tmp_path / "link").symlink_to(outside / "secret")
    found = {run.name: run for run in Summaries(tmp_path).all()}
    health = {name: run.status.health for name, run in found.items()}
    assert health["healthy-running"] is Health.RUNNING
    assert health["just-created"] is Health.CREATED
    assert health["stale-heartbeat"] is Health.STALE
    assert health["dead-process"] is Health.DEAD
    assert health["failed-out-of-memory"] is Health.FAILED
    assert health["broken-json"] is Health.BROKEN and health["link"] is Health.BROKEN
    assert found["link"].status.info is None
    verdict = {name: run.concern.kind for name, run in found.items() if run.concern}
    assert verdict["collapsed-running"] == "collapse"
    assert verdict["nan-running"] == "nonfinite"
    assert verdict["healthy-running"] == "healthy"
    assert found["physionet-finished"].best_auroc == pytest.approx(0.86, abs=0.03)
    assert next(iter(found)) == "just-created" and found["just-created"].best_auroc is None


def test_summary_follows_the_run(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=100, state=RunState.RUNNING, silent=timedelta(minutes=10))
    summaries = Summaries(tmp_path)
    assert summaries.all()[0].step == 100
    beat(layout, 150)
    assert summaries.all()[0].step == 150
    beat(layout, 150, silent=timedelta(minutes=10))
    assert summaries.all()[0].status.health is Health.STALE


def test_a_dead_process_is_noticed_without_a_file_event(tmp_path: Path) -> None:
    make_run(tmp_path, "a", state=RunState.RUNNING, pid=GONE_PID)
    store = Store(tmp_path, lambda _name: 0)
    assert store.health("a") is Health.DEAD
    assert store.health("b") is None


def test_gone_run_is_forgotten(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=3)
    assert store.snapshot("a") is not None
    layout.root.rename(tmp_path / "moved")
    assert store.snapshot("a") is None
    assert not store._logs


def test_unreadable_file_and_odd_columns_do_not_break_a_page(tmp_path: Path, store: Store) -> None:
    layout = make_run(tmp_path, "a", steps=3)
    layout.metrics.write_bytes(encode_line(1, {"loss": 1.0, "per_dim": [1.0, 2.0], "note": "x", "gone": None}))
    layout.evaluations.unlink()
    layout.evaluations.mkdir()
    snapshot = store.snapshot("a")
    assert snapshot is not None
    assert snapshot.problems == ["evaluations.jsonl: Is a directory"]
    assert snapshot.latest("training", "loss") == 1.0 and snapshot.latest("training", "per_dim") is None
    assert "Is a directory" in str(Summaries(tmp_path).all()[0].status.reason)
