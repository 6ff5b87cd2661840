"""The list of runs as data: what is read again when, what is sent, what people say of runs, and how runs are deleted."""

import errno
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.overview import entries, notes
from dashboard.overview.deleting import TRASH, delete_run, folder_size
from dashboard.overview.notes import change_notes, read_notes, with_note, with_tags
from dashboard.overview.rows import DEFAULTS, Rows
from dashboard.overview.summaries import Summaries
from dashboard.runs.colours import Colours
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health
from shared.schema import RunNotes, RunState
from shared.writer import JsonlWriter, encode_line, write_record
from tests.run_factory import beat, make_run, make_zoo


class Watched:
    """Revisions as the watcher gives them: those of runs that a test says were touched rise, and the list's with them."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()

    def touch(self, *names: str) -> None:
        self.numbers.update([*names, ""])

    def __call__(self, key: str) -> int:
        return self.numbers[key]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def rows(summaries: Summaries, colours: Colours) -> tuple[Rows, dict[str, Any]]:
    made = Rows(summaries, colours)
    return made, orjson.loads(made.since(""))


def test_only_the_run_that_trains_is_read_again_and_sent(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        make_run(tmp_path, f"run-{number}", steps=20)
    layout = make_run(tmp_path, "training", steps=20, state=RunState.RUNNING)
    summaries = Summaries(tmp_path, watched)
    summaries.all()
    made, first = rows(summaries, Colours(tmp_path))
    assert len(first["rows"]) == 21 and first["whole"] and first["unread"] == 0
    looked: list[str] = []
    real = entries.read_status
    monkeypatch.setattr(entries, "read_status", lambda one: looked.append(one.root.name) or real(one))  # type: ignore[func-returns-value]
    beat(layout, 21)
    watched.touch("training")
    second = orjson.loads(made.since(first["token"]))
    assert looked == ["training"]
    assert [row["name"] for row in second["rows"]] == ["training"] and not second["whole"] and "defaults" not in second
    assert second["rows"][0]["step"] == 21
    third = orjson.loads(made.since(second["token"]))
    assert third["rows"] == [] and third["token"] == second["token"] and looked == ["training"]


def test_logs_go_on_where_they_stopped(tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_run(tmp_path, "a", steps=1000, state=RunState.RUNNING)
    layout.evaluations.write_bytes(b"".join(encode_line(step, {"kind": "validation", "auroc": 0.7}) for step in range(1, 5000)))
    summaries = Summaries(tmp_path, watched)
    assert summaries.all()[0].best_auroc == 0.7
    taken: list[int] = []
    take = entries.RunLogs._take
    monkeypatch.setattr(entries.RunLogs, "_take", lambda self, row: taken.append(row["step"]) or take(self, row))  # type: ignore[func-returns-value]
    with layout.evaluations.open("ab") as file:
        file.write(
            encode_line(5000, {"kind": "validation", "auroc": 0.9}) + encode_line(5001, {"kind": "validation", "auroc": 0.8})
        )
    watched.touch("a")
    assert summaries.all()[0].best_auroc == 0.9 and taken == [5000, 5001]
    layout.evaluations.unlink()
    layout.evaluations.write_bytes(encode_line(1, {"kind": "validation", "auroc": 0.6}))
    watched.touch("a")
    assert summaries.all()[0].best_auroc == 0.6, "a log that was cut is read from its head"


def test_runs_come_and_go(tmp_path: Path, watched: Watched) -> None:
    make_run(tmp_path, "old", steps=5)
    summaries = Summaries(tmp_path, watched)
    made, first = rows(summaries, Colours(tmp_path))
    new = tmp_path / "new"
    new.mkdir()
    watched.touch("new")
    second = orjson.loads(made.since(first["token"]))
    assert second["rows"] == [], "a folder without run.json is no run yet"
    new.rmdir()
    make_run(tmp_path, "new", state=RunState.CREATED)
    watched.touch("new")
    third = orjson.loads(made.since(second["token"]))
    assert [row["name"] for row in third["rows"]] == ["new"]
    (tmp_path / "old").rename(tmp_path / ".old")
    watched.touch("old")
    fourth = orjson.loads(made.since(third["token"]))
    assert fourth["gone"] == ["old"] and summaries.names() == ["new"]
    (tmp_path / ".old").rename(tmp_path / "old")
    watched.touch("old")
    fifth = orjson.loads(made.since(fourth["token"]))
    assert [row["name"] for row in fifth["rows"]] == ["old"] and fifth["gone"] == []


@pytest.mark.parametrize("token", ["", "x", "0-1", "-", "zz-999999999999", "\u00b2-\u00b2"])
def test_an_unknown_token_gets_everything(tmp_path: Path, token: str) -> None:
    make_run(tmp_path, "a", steps=5)
    answer = orjson.loads(Rows(Summaries(tmp_path), Colours(tmp_path)).since(token))
    assert answer["whole"] and len(answer["rows"]) == 1 and answer["defaults"] == DEFAULTS


def test_what_is_unread_has_no_figures_and_follows(tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, "early-20260101-000000", steps=200)
    make_run(tmp_path, "late-20260102-000000", steps=200)
    told = threading.Event()
    summaries = Summaries(tmp_path, watched, told.set)
    summaries.names()
    monkeypatch.setattr("dashboard.overview.summaries.SLICE_S", 0.0)
    changes = summaries.since(0)
    unread = [run for run in changes.runs if not run.complete]
    assert len(unread) == changes.unread == 1 and unread[0].best_auroc is None and unread[0].verdict is None
    assert told.wait(10), "the rest is read in a thread, which says when it is done"
    later = summaries.since(changes.serial)
    assert later.unread == 0 and [run.complete for run in later.runs] == [True] and later.runs[0].best_auroc


def test_a_row_says_where_options_differ_and_what_is_missing(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=100)
    record = orjson.loads(layout.run_json.read_bytes())
    record["config"]["loss"]["beta_max"] = 7.0
    del record["config"]["model"]["width"]
    layout.run_json.write_bytes(orjson.dumps(record))
    make_run(tmp_path, "theirs", steps=100)
    other = RunLayout(tmp_path / "theirs")
    other.run_json.write_bytes(
        orjson.dumps(orjson.loads(other.run_json.read_bytes()) | {"config": {"lr": 0.1, "net": {"size": 3}}})
    )
    _, answer = rows(Summaries(tmp_path), Colours(tmp_path))
    found = {row["name"]: row for row in answer["rows"]}
    assert found["a"]["config"] == {"loss.beta_max": 7.0, "loss.beta_warmup_steps": 500}
    assert found["a"]["like"] and found["a"]["lacks"] == ["model.width"]
    assert found["theirs"]["config"] == {"lr": 0.1, "net.size": 3} and not found["theirs"]["like"]
    assert answer["defaults"]["loss.beta_max"] == 0.1


def test_damaged_runs_are_rows_that_say_why(tmp_path: Path) -> None:
    make_zoo(tmp_path)
    odd = make_run(tmp_path, "odd-verdict", steps=100)
    for data in (
        {},
        {"verdict": 3},
        {"verdict": "x", "severity": "panic"},
        {"verdict": "x", "level": []},
        {"verdict": "x", "began": "y"},
    ):
        JsonlWriter(odd.events).write(1, {"schema_version": 1, "kind": "verdict", "data": data})
    noted = make_run(tmp_path, "odd-notes", steps=100)
    noted.notes.write_text('{"schema_version": 1, "tags": 5}')
    _, answer = rows(Summaries(tmp_path), Colours(tmp_path))
    found = {row["name"]: row for row in answer["rows"]}
    assert found["broken-json"]["state"] == "broken" and "not valid JSON" in found["broken-json"]["reason"]
    assert "events.jsonl: the verdict at step 1 cannot be read (began: " in found["odd-verdict"]["reason"]
    assert "notes.json: field tags" in found["odd-notes"]["reason"] and found["odd-notes"]["tags"] == []


def test_names_that_are_not_text_are_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=5)
    make_run(tmp_path, "b", steps=5).root.rename(tmp_path / os.fsdecode(b"bad-\xff"))
    _, answer = rows(Summaries(tmp_path), Colours(tmp_path))
    assert [row["name"] for row in answer["rows"]] == ["a"]


def test_notes_are_kept_with_the_run_and_reach_the_list(tmp_path: Path, watched: Watched) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    summaries = Summaries(tmp_path, watched)
    made, first = rows(summaries, Colours(tmp_path))
    assert read_notes(layout) == RunNotes()
    change_notes(tmp_path, "a", lambda now: with_note(with_tags(now, [" sweep  one ", "x", "x"]), "", "good run"))
    change_notes(tmp_path, "a", lambda now: with_tags(now, ["y"], ["x"]))
    change_notes(tmp_path, "a", lambda now: now.model_copy(update={"archived": True}))
    watched.touch("a")
    row = orjson.loads(made.since(first["token"]))["rows"][0]
    assert (row["tags"], row["note"], row["archived"]) == (["sweep one", "y"], "good run", True)


def test_notes_that_cannot_be_kept_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    add = lambda now: with_tags(now, ["x"])  # noqa: E731
    with pytest.raises(InputError, match="no longer in"):
        change_notes(tmp_path, "../a", add)
    for tag in ("", " ", "x" * 41, "a\0b", "a\u202eb"):
        with pytest.raises(InputError, match="1 to 40 printable"):
            change_notes(tmp_path, "a", lambda now, tag=tag: with_tags(now, [tag]))
    with pytest.raises(InputError, match="somebody has changed it meanwhile to 'theirs'"):
        with_note(RunNotes(note="theirs"), "before", "mine")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(notes, "write_record", read_only)
        with pytest.raises(InputError, match=r"notes\.json: cannot be written \(Read-only file system\).*writable"):
            change_notes(tmp_path, "a", add)
    layout.notes.write_text("{ broken")
    with pytest.raises(InputError, match="it is not written over"):
        change_notes(tmp_path, "a", add)
    assert layout.notes.read_text() == "{ broken"


def test_two_people_who_tag_at_once_are_both_heard(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=1)
    people = [
        threading.Thread(target=change_notes, args=(tmp_path, "a", lambda now, tag=f"t{number}": with_tags(now, [tag])))
        for number in range(16)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert sorted(read_notes(layout).tags) == sorted(f"t{number}" for number in range(16))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_notes_of_any_bytes_never_break_the_list(tmp_path: Path, data: bytes) -> None:
    layout = RunLayout(tmp_path / "a")
    if not layout.root.exists():
        make_run(tmp_path, "a", steps=1)
    layout.notes.write_bytes(data)
    summary = Summaries(tmp_path).all()[0]
    assert summary.status.health is Health.FINISHED and isinstance(summary.notes, RunNotes)


def test_deleting_takes_the_whole_run_and_nothing_else(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    evil = "<img src=x onerror=alert(1)>"
    layout = make_run(runs, evil, steps=20)
    other = make_run(runs, "other", steps=20)
    outside = make_run(tmp_path / "elsewhere", "theirs", steps=20)
    (runs / f"{TRASH}left-by-a-killed-dashboard").mkdir()
    assert folder_size(layout.root) == sum(path.stat().st_size for path in layout.root.iterdir()) > 1000
    (layout.root / "link").symlink_to(outside.root)
    delete_run(runs, evil)
    assert sorted(path.name for path in runs.iterdir()) == ["other"]
    assert outside.run_json.exists() and other.run_json.exists(), "links are removed, not followed"


def test_what_must_not_be_deleted(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make_run(runs, "running", steps=5, state=RunState.RUNNING)
    make_run(runs, "created", state=RunState.CREATED)
    outside = make_run(tmp_path / "elsewhere", "theirs", steps=5)
    (runs / "link").symlink_to(outside.root)
    for name in ("running", "created"):
        with pytest.raises(InputError, match="it is running: stop the training first"):
            delete_run(runs, name)
    for name in ("..", "../elsewhere/theirs", "link", "", "none", ".", str(outside.root)):
        with pytest.raises(InputError, match="no longer in"):
            delete_run(runs, name)
    assert outside.run_json.exists() and len(list(runs.iterdir())) == 3


def test_a_run_that_cannot_be_moved_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_run(tmp_path, "a", steps=5)

    def refuse(_self: Path, _target: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InputError, match=r"a: cannot be deleted \(Permission denied\); nothing of it was touched"):
        delete_run(tmp_path, "a")
    assert layout.run_json.exists() and layout.metrics.exists()


def test_archived_is_a_flag_in_the_notes(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    write_record(layout.notes, RunNotes(archived=True))
    assert Summaries(tmp_path).all()[0].notes.archived
