"""Colours of runs: distinct, the same after a restart, and never a reason to fail."""

import multiprocessing
from pathlib import Path

import orjson
import pytest

from dashboard.runs import colours
from dashboard.runs.colours import FILE, FOLDER, SLOTS, Colours


def test_each_run_has_a_style_of_its_own_that_stays(tmp_path: Path) -> None:
    names = [f"run-{number}" for number in range(SLOTS)]
    styles = Colours(tmp_path).all(names)
    assert len({(style.colour(False), style.dash) for style in styles.values()}) == SLOTS
    assert Colours(tmp_path).all(reversed(names)) == styles
    assert Colours(tmp_path).of("one more").slot == 0


def test_damaged_or_unwritable_files_cost_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / FILE).write_text('{"a": 3, "b": "x", "c": 99999}')
    assert Colours(tmp_path).of("a").slot == 3
    (tmp_path / FOLDER / FILE).write_text("{")
    assert Colours(tmp_path).of("a").slot == 0
    other = Colours(tmp_path / "no such folder")
    assert other.of("a") == other.of("a")


def test_dashboards_on_one_folder_take_what_each_other_gave(tmp_path: Path) -> None:
    first, second = Colours(tmp_path), Colours(tmp_path)
    given = first.of("a"), second.of("b"), first.of("c")
    assert [style.slot for style in given] == [0, 1, 2]
    assert all(list(one.all("abc").values()) == list(given) for one in (first, second, Colours(tmp_path)))
    assert orjson.loads((tmp_path / FOLDER / FILE).read_bytes()) == {"a": 0, "b": 1, "c": 2}


def _give(runs: Path, own: str) -> None:
    here = Colours(runs)
    for number in range(20):
        here.all([f"{own}-{number}", f"both-{number}"])


def test_dashboards_that_give_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("fork").Process(target=_give, args=(tmp_path, own)) for own in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    found = orjson.loads((tmp_path / FOLDER / FILE).read_bytes())
    assert set(found) == {f"{own}-{number}" for own in ("a", "b", "c", "both") for number in range(20)}
    assert max(found.values()) == SLOTS - 1, "the least used style: who does not see what others gave repeats the first ones"


def test_a_style_given_while_the_disk_was_full_yields_to_the_one_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Colours(tmp_path), Colours(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(
            colours, "replace_atomically", lambda *_args: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        assert first.all(["x", "y"])["y"].slot == 1
    assert second.of("y").slot == 0
    first.of("z")
    assert first.of("y") == second.of("y") == Colours(tmp_path).of("y")


def test_only_runs_that_went_long_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours, "KEPT_GONE", 3)
    (tmp_path / "here").mkdir()
    here, other = Colours(tmp_path), Colours(tmp_path)
    kept = here.all(["here", "gone-0"]) | other.all(f"gone-{number}" for number in range(1, 6))
    assert set(orjson.loads((tmp_path / FOLDER / FILE).read_bytes())) == {"here", *(f"gone-{number}" for number in range(6))}, (
        "asked for"
    )
    here.of("slow to appear")
    found = orjson.loads((tmp_path / FOLDER / FILE).read_bytes())
    assert list(found) == ["here", "gone-3", "gone-4", "gone-5", "slow to appear"]
    assert all(found[name] == kept[name].slot for name in found if name in kept)
    monkeypatch.setattr(colours.os, "listdir", lambda _path: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    here.of("one more")
    assert len(orjson.loads((tmp_path / FOLDER / FILE).read_bytes())) == 6, "a folder that does not show its runs lost none"


def test_a_disk_without_locks_still_keeps_styles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours.fcntl, "flock", lambda *_args: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    assert Colours(tmp_path).all("ab") == Colours(tmp_path).all("ab")
    assert orjson.loads((tmp_path / FOLDER / FILE).read_bytes()) == {"a": 0, "b": 1}
