"""Colours of runs: distinct, the same after a restart, and never a reason to fail."""

from pathlib import Path

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
