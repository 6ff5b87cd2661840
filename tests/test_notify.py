"""News of runs: told once, also across restarts; to a real web server and a real program; texts that nothing in a run can turn into more."""

import queue
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.notify import watch
from dashboard.notify.memory import FILE
from dashboard.notify.notice import Notice
from dashboard.notify.send import DeliveryError, Way
from dashboard.notify.watch import Bell
from shared.collapse import Verdict
from shared.layout import RunLayout
from shared.reader import RunStatus, read_record
from shared.schema import Event, RunInfo, RunState, now
from shared.verdicts import verdict_data
from shared.writer import JsonlWriter, cut_after_step, write_record
from tests.run_factory import GONE_PID, make_run

COLLAPSE = Verdict("collapse", "alarm", "Posterior collapse", "0 of 64 units are active.", began=450, advice="Lower beta.")


class Recorder:
    """A way out that only notes what it gets."""

    name = "recorder"

    def __init__(self) -> None:
        self.got: queue.Queue[Notice] = queue.Queue()

    def send(self, notice: Notice, address: str) -> None:
        self.got.put(notice)

    def next(self) -> Notice:
        return self.got.get(timeout=10)


@contextmanager
def bell(runs: Path, *ways: Way, pauses: Sequence[float] = ()) -> Iterator[Bell]:
    """A bell that has had its first look."""
    met: queue.Queue[None] = queue.Queue()
    made = Bell(runs, lambda: met.put(None), ways, "http://dash:8501", pauses, first_look_s=0)
    made.start()
    met.get(timeout=10)
    try:
        yield made
    finally:
        made.stop()


def tell(layout: RunLayout, verdict: Verdict, step: int = 500, at: datetime | None = None) -> None:
    writer = JsonlWriter(layout.events)
    writer.write_record(Event(at=at or now(), step=step, kind="verdict", message=verdict.title, data=verdict_data(verdict)))
    writer.close()


def become(layout: RunLayout, state: RunState, error: str | None = None) -> None:
    info = read_record(layout.run_json, RunInfo)
    write_record(layout.run_json, info.model_copy(update={"state": state, "state_since": now(), "error": error}))


def running(runs: Path, name: str = "a") -> RunLayout:
    return make_run(runs, name, steps=60, state=RunState.RUNNING)


def titles(ringing: Bell) -> list[str]:
    return [notice["title"] for notice in ringing.message()["notices"]]


def test_the_past_of_an_old_folder_is_no_news_but_what_comes_is(tmp_path: Path) -> None:
    make_run(tmp_path, "old-alarm", steps=600, collapse=True)
    make_run(tmp_path, "old-death", steps=60, state=RunState.RUNNING, pid=GONE_PID)
    layout, out = running(tmp_path), Recorder()
    with bell(tmp_path, out) as ringing:
        assert ringing.message() == {"notices": [], "last": 0, "problems": []}
        tell(layout, COLLAPSE)
        ringing.touch(["a"])
        told = out.next()
        assert (told.run, told.kind, told.severity, told.step, told.title) == (
            "a",
            "collapse",
            "alarm",
            500,
            "Posterior collapse",
        )
        assert told.detail == "0 of 64 units are active. Since step 450. Lower beta."
        become(layout, RunState.FAILED, "CUDA out of memory")
        ringing.touch(["a", "", ".notices"])
        told = out.next()
        assert (told.kind, told.title, told.detail) == ("failed", "Training failed", "CUDA out of memory")
        assert titles(ringing) == ["Posterior collapse", "Training failed"]
    assert out.got.empty()


def test_a_verdict_is_told_once_until_it_is_over_or_worse(tmp_path: Path) -> None:
    layout, out = running(tmp_path), Recorder()
    with bell(tmp_path, out) as ringing:

        def say(severity: str, ended: int | None = None, dims: tuple[int, ...] = ()) -> None:
            tell(layout, Verdict("collapse", severity, severity, "", began=1, ended=ended, dims=dims))  # type: ignore[arg-type]
            ringing.touch(["a"])

        for severity, ended, dims in (("info", None, ()), ("warning", None, ()), ("warning", None, (1, 2)), ("alarm", None, ()),
                                      ("alarm", 9, ()),
                                      ("alarm", None, ())):  # fmt: skip
            say(severity, ended, dims)
        tell(layout, Verdict("healthy", "ok", "Posterior healthy", ""))
        tell(layout, Verdict("last", "warning", "the last", ""))
        ringing.touch(["a"])
        assert [out.next().title for _ in range(4)] == ["warning", "alarm", "alarm", "the last"]


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_neither_repeats_nor_loses(tmp_path: Path, kill: bool) -> None:
    layout, out = running(tmp_path), Recorder()
    with bell(tmp_path, out) as ringing:
        tell(layout, COLLAPSE)
        ringing.touch(["a"])
        out.next()
        memory = (tmp_path / FILE).read_bytes()
    if kill:  # what was remembered when the notice was told is all there is
        (tmp_path / FILE).write_bytes(memory)
    become(layout, RunState.FINISHED)
    late = make_run(tmp_path, "started-while-away", steps=60, state=RunState.RUNNING, age=timedelta(0))
    tell(late, COLLAPSE)
    again = Recorder()
    with bell(tmp_path, again) as ringing:
        told = {(notice.run, notice.kind) for notice in (again.next(), again.next())}
        if kill and ("a", "collapse") in told:  # killed before it was known to be out: rather twice than never
            told = told - {("a", "collapse")} | {(notice.run, notice.kind) for notice in (again.next(),)}
        assert told == {("a", "finished"), ("started-while-away", "collapse")}
        numbers = [notice["number"] for notice in ringing.message()["notices"]]
        assert numbers == sorted(set(numbers)) and len(numbers) == 3, "pages tell by the number what they have shown"
    assert again.got.empty()


def test_what_was_not_delivered_is_delivered_after_the_restart(tmp_path: Path) -> None:
    layout = running(tmp_path)

    class Down(Recorder):
        def send(self, notice: Notice, address: str) -> None:
            self.got.put(notice)
            raise DeliveryError("answered 503", again=True)

    down = Down()
    with bell(tmp_path, down, pauses=(60.0,)) as ringing:
        tell(layout, COLLAPSE)
        ringing.touch(["a"])
        first = down.next()
    out = Recorder()
    with bell(tmp_path, out):
        assert out.next() == first


def test_a_way_out_lives_on_after_what_nobody_foresaw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = running(tmp_path)

    class Odd(Recorder):
        def send(self, notice: Notice, address: str) -> None:
            if notice.step == 1:
                raise RuntimeError("nobody foresaw this")
            super().send(notice, address)

    odd = Odd()
    with bell(tmp_path, odd) as ringing:
        tell(layout, COLLAPSE, step=1)
        ringing.touch(["a"])
        become(layout, RunState.FAILED, "CUDA out of memory")
        ringing.touch(["a"])
        assert odd.next().kind == "failed"
    assert "the notice of run a to the recorder: RuntimeError" in caplog.text


def test_a_log_that_a_resume_rewrote_is_not_told_again(tmp_path: Path) -> None:
    layout, out = running(tmp_path), Recorder()
    with bell(tmp_path, out) as ringing:
        tell(layout, COLLAPSE, step=50)
        ringing.touch(["a"])
        assert out.next().step == 50
        tell(
            layout, Verdict("healthy", "ok", "Posterior healthy", ""), step=200
        )  # no news, but cut off: the file is written anew
        cut_after_step(layout.events, 100)
        tell(layout, Verdict("spike", "warning", "Instability", ""), step=120)
        ringing.touch(["a"])
        assert out.next().title == "Instability"
    assert out.got.empty()


def test_a_run_that_is_copied_here_is_no_news(tmp_path: Path) -> None:
    elsewhere = make_run(tmp_path / "other", "copied", steps=600, collapse=True, silent=timedelta(days=2))
    runs = tmp_path / "runs"
    layout, out = running(runs), Recorder()
    tell(elsewhere, COLLAPSE, at=now() - timedelta(days=2))
    lines = elsewhere.events.read_bytes().splitlines(keepends=True)
    old = [line for line in lines if orjson.loads(line)["at"] < (now() - timedelta(days=1)).isoformat()]
    elsewhere.events.write_bytes(b"".join(old))
    with bell(runs, out) as ringing:
        shutil.copytree(elsewhere.root, runs / "copied")
        ringing.touch(["copied"])
        tell(layout, COLLAPSE)
        ringing.touch(["a"])
        assert out.next().run == "a"
        shutil.rmtree(runs / "copied")
        ringing.touch(["copied", "../other/copied", "no\0thing"])
    assert out.got.empty()


def test_a_process_that_dies_is_noticed_without_any_file_changing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.notify.watch.CHECK_S", 0.05)
    running(tmp_path)
    out = Recorder()
    with bell(tmp_path, out):
        monkeypatch.setattr("shared.reader._alive", lambda pid: False)
        told = out.next()
        assert (told.kind, told.severity) == ("dead", "alarm") and "resume the run" in told.detail


def test_damaged_lines_and_a_lost_memory_end_nothing(tmp_path: Path) -> None:
    layout, out = running(tmp_path), Recorder()
    with bell(tmp_path, out) as ringing, layout.events.open("ab") as file:
        file.write(
            b'not json\n{"step":1}\n{"at":"never","step":1}\n{"at":"2999-01-01T00:00:00","step":1}\n[]\n{"kind":"verdict","at":'
        )
        file.flush()
        ringing.touch(["a"])
        become(layout, RunState.FINISHED)
        ringing.touch(["a"])
        assert out.next().kind == "finished"
    (tmp_path / FILE).write_text("{")
    with bell(tmp_path, Recorder()) as ringing:
        assert ringing.message()["notices"] == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    running(tmp_path)
    (tmp_path / ".dashboard").write_text("a file where a folder should be")
    with bell(tmp_path) as ringing:
        assert "cannot write" in ringing.message()["problems"][0]


@given(st.text(), st.text())
def test_texts_for_chats_hold_no_link_no_format_and_no_call(run: str, detail: str) -> None:
    notice = Notice(
        number=1, run=run, kind="failed", severity="alarm", title="Training failed", detail=detail, step=1, at=now()
    )
    text = notice.payload("https://dash")["text"]
    assert "<" not in text and ">" not in text and "](" not in text
    assert all(text[at + 1 : at + 2] == "\u200b" for at, letter in enumerate(text) if letter == "@")


def test_one_run_that_cannot_be_read_takes_no_news_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = watch.read_status

    def odd(layout: RunLayout) -> RunStatus:
        if layout.root.name == "odd":
            raise RuntimeError("nobody foresaw this")
        return read(layout)

    monkeypatch.setattr(watch, "read_status", odd)
    recorder = Recorder()
    with bell(tmp_path, recorder) as ring:
        for name in ("odd", "a"):
            make_run(tmp_path, name, steps=5, state=RunState.FAILED, error="out of memory", age=timedelta(0))
            ring.touch([name])
        assert recorder.got.get(timeout=10).run == "a"
