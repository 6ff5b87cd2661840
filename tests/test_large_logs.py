"""Large logs, read in the background: few at a time, through what goes wrong on the way, and for as long as somebody looks."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dashboard.runs import loading, runlog
from dashboard.runs.curves import Curves
from dashboard.runs.loading import Store
from dashboard.runs.runlog import RunLog
from dashboard.runs.snapshot import Snapshot
from shared.columns import Columns
from shared.layout import RunLayout
from shared.reader import JsonlTail
from tests.run_factory import make_run


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "LARGE_BYTES", 1000)
    monkeypatch.setattr(runlog, "SAMPLE_LINES", 20)
    monkeypatch.setattr(runlog, "PIECE_BYTES", 20_000)


class Reader:
    """Reads one run again each time it has news, as the pages do."""

    def __init__(self, layout: RunLayout) -> None:
        self.told = threading.Event()
        self.run = RunLog(layout, self.told.set)
        self.revision = 0

    def look(self) -> Snapshot:
        self.revision += 1
        return self.run.snapshot(self.revision)

    def news(self) -> Snapshot:
        assert self.told.wait(10)
        self.told.clear()
        return self.look()

    def until_read(self) -> Iterator[Snapshot]:
        while (snapshot := self.news()).reading is not None:
            yield snapshot
        yield snapshot


def steps_of(snapshot: Snapshot) -> list[float]:
    return snapshot.series("training", "loss")[0].tolist()


def test_two_logs_at_a_time_however_many_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, go, lock = JsonlTail.read_columns, threading.Event(), threading.Lock()
    now: set[int] = set()
    most, begun = 0, threading.Barrier(3)

    def slow(tail: JsonlTail, limit: int | None = None) -> Columns:
        nonlocal most
        if threading.current_thread() is threading.main_thread():
            return plain(tail, limit)
        with lock:
            now.add(threading.get_ident())
            most = max(most, len(now))
        if not go.is_set():
            begun.wait(10)  # two readers and this test
            go.wait(10)
        columns = plain(tail, limit)
        if not tail.left:
            with lock:
                now.discard(threading.get_ident())
        return columns

    monkeypatch.setattr(JsonlTail, "read_columns", slow)
    readers = [Reader(make_run(tmp_path, f"run-{number}", steps=200)) for number in range(6)]
    assert all(reader.look().reading is not None for reader in readers)
    begun.wait(10)
    go.set()
    assert all(steps_of(list(reader.until_read())[-1]) == list(range(1, 201)) for reader in readers)
    assert most == 2


def test_what_nobody_foresaw_costs_one_piece_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Curves.extend

    def odd(curves: Curves, columns: Columns) -> None:
        if len(columns) > 20 and 1500 in set(columns["step"].tolist()):
            raise RuntimeError("nobody foresaw this")
        plain(curves, columns)

    monkeypatch.setattr(Curves, "extend", odd)
    reader = Reader(make_run(tmp_path, "a", steps=3000))
    assert reader.look().reading is not None
    *_, whole = reader.until_read()
    steps = steps_of(whole)
    assert whole.reading is None and steps[0] == 1 and steps[-1] == 3000 and 1500 not in steps
    assert len(steps) > 2800 and (np.diff(steps) > 0).all()
    assert whole.problems == [f"metrics.jsonl: {runlog.UNREAD}"]
    assert [record for record in caplog.records if record.exc_info and "a/metrics.jsonl: RuntimeError" in record.message]


def test_a_disk_that_fails_for_a_while_is_named_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, pieces = JsonlTail.read_columns, 0

    def failing(tail: JsonlTail, limit: int | None = None) -> Columns:
        nonlocal pieces
        pieces += 1
        if pieces == 5:
            raise OSError(5, "Input/output error")
        return plain(tail, limit)

    monkeypatch.setattr(JsonlTail, "read_columns", failing)
    reader = Reader(make_run(tmp_path, "a", steps=3000))
    reader.look()
    *_, stopped = reader.until_read()
    assert stopped.problems == ["metrics.jsonl: Input/output error"] and 0 < len(steps_of(stopped)) <= 20, "the sample stays"
    assert reader.look().reading is not None, "the next change tries again"
    *_, whole = reader.until_read()
    assert steps_of(whole) == list(range(1, 3001)) and not whole.problems


def test_runs_that_are_looked_at_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_OPEN_RUNS", 2)
    looked_at = ["run-0", "run-1", "run-2"]
    store = Store(tmp_path, lambda _name: 1, looked_at=lambda: looked_at)
    for number in range(5):
        make_run(tmp_path, f"run-{number}", steps=5)
        store.snapshot(f"run-{number}")
    assert list(store._logs) == ["run-0", "run-1", "run-2", "run-4"]
    del looked_at[:]
    store.snapshot("run-4")
    assert list(store._logs) == ["run-2", "run-4"]
