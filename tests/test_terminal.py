"""The progress bar of commands."""

import sys

import pytest
from rich.progress import TimeElapsedColumn

from backend import terminal
from backend.terminal import counted, progress_bar


def test_a_bar_is_drawn_on_a_terminal_alone_and_names_are_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for there in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda there=there: there)
        with progress_bar(TimeElapsedColumn()) as bar:
            bar.advance(bar.add_task("run [bold]1[/]", total=2))
        shown = capsys.readouterr()
        assert shown.out == "" and ("run [bold]1[/]" in shown.err) is there and (shown.err != "") is there


def test_batches_are_counted_in_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    for _ in counted(range(2000), "valid split"):
        now[0] += 0.013
    assert capsys.readouterr().err == "valid split: 1,154 of 2,000 batches\n"
