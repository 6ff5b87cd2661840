"""Reading checkpoints when the system refuses it for a while, or when a reading breaks."""

import threading
from pathlib import Path
from typing import Any

import pytest

from dashboard.checkpoints.inside import Shelf
from dashboard.checkpoints.listing import list_folder
from dashboard.checkpoints.values import ask_norms
from dashboard.checkpoints.work import CheckpointWork, Lane
from shared.errors import InputError
from tests.checkpoint_folders import save
from tests.run_factory import make_run


def test_a_task_that_breaks_is_told_of_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    told, go = threading.Event(), threading.Event()

    def broken(_report: Any) -> None:
        go.wait(10)
        raise RuntimeError("a bug")

    lane = Lane(told.set)
    first, second = lane.ask("first", broken), lane.ask("second", lambda _report: 2)
    go.set()
    assert told.wait(10) and "unexpectedly" in str(first.wait(10).problem) and second.wait(10).result == 2


def test_what_the_system_refused_is_read_once_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights are mended without the file changing, so that its identity cannot tell."""
    run = make_run(tmp_path, "run", steps=5)
    save(run, "last.ckpt", "last", 5)
    one, shelf, reading = list_folder(run).named("last.ckpt"), Shelf(), CheckpointWork(lambda: None)
    with monkeypatch.context() as refused:
        refused.setattr(
            "shared.torch_file.os.open", lambda *_args: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
        with pytest.raises(InputError, match="Permission denied"):
            shelf.look(one.path, one.identity)
        failed = ask_norms(reading, (one.path, one.identity)).wait(10)
        assert "Permission denied" in str(failed.problem)
    assert shelf.look(one.path, one.identity).step == 5
    assert ask_norms(reading, (one.path, one.identity)) is failed, "not at once: a page that shows it would ask for ever"
    monkeypatch.setattr("dashboard.checkpoints.work.RETRY_S", -1.0)
    assert ask_norms(reading, (one.path, one.identity)).wait(10).result
