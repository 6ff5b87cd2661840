"""The UMAP that the dashboard has made beside it: once for all who ask, one at a time, on runs of its folder alone."""

import os
import sys
import threading

import pytest

from dashboard.work import Progress, Task, Work
from tests.latent_runs import latent_run


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return latent_run(tmp_path_factory.mktemp("runs"), "run", steps=(300,))


class Watched:
    """Work whose process is a small script in place of the backend, and a wait for its end."""

    def __init__(self, runs, monkeypatch, script: str) -> None:
        self.began: list[list[str]] = []
        self.ended = threading.Event()
        self.work = Work(
            runs, lambda name: None if self.work.progress(self.task) == Progress("running", "starting") else self.ended.set()
        )
        self.task = Task("run", "latents")
        wait, set_priority = self.work._wait, os.setpriority
        self.started = threading.Event()
        """The process is there: the last thing before it is waited for is its priority."""

        def noticed(*given):
            set_priority(*given)
            self.started.set()

        monkeypatch.setattr("dashboard.work.os.setpriority", noticed)

        def instead(command, output):
            self.began.append(command)
            return wait([sys.executable, "-c", script, *command[3:]], output)

        monkeypatch.setattr(self.work, "_wait", instead)

    def finish(self) -> None:
        assert self.ended.wait(30)
        self.ended.clear()


def test_work_is_done_once_for_all_who_ask(layout, monkeypatch):
    watched = Watched(layout.root.parent, monkeypatch, "import time; time.sleep(0.3)")
    for _ in range(3):
        watched.work.ask(watched.task, 300, "token")
    watched.finish()
    watched.work.ask(watched.task, 300, "token")
    assert [command[2:] for command in watched.began] == [["backend", "umap", str(layout.root), "--of=latents", "--step=300"]]
    assert watched.work.progress(watched.task) is None
    watched.work.ask(watched.task, 300, "another")
    watched.finish()
    assert len(watched.began) == 2


def test_failed_work_shows_its_last_lines_and_can_be_tried_again(layout, monkeypatch):
    watched = Watched(layout.root.parent, monkeypatch, "import sys; print('line\\n' * 40 + 'disk full'); sys.exit(3)")
    watched.work.ask(watched.task, None, "token")
    watched.finish()
    failed = watched.work.progress(watched.task)
    assert failed.state == "failed" and failed.output.endswith("disk full") and failed.output.count("line") < 20
    watched.work.ask(watched.task, None, "token")
    assert watched.work.progress(watched.task).state == "failed", "not again by itself"
    watched.work.ask(watched.task, None, "token", again=True)
    watched.finish()
    assert len(watched.began) == 2


def test_work_ends_with_the_dashboard(layout, monkeypatch):
    watched = Watched(layout.root.parent, monkeypatch, "import time; time.sleep(600)")
    watched.work.ask(watched.task, None, "token")
    assert watched.started.wait(30), "no process within 30 s"
    process = watched.work._process
    watched.work.stop()
    assert process.poll() is not None
    watched.work.ask(watched.task, None, "other")
    assert len(watched.began) == 1


def test_work_is_only_done_on_runs_of_the_folder(layout, monkeypatch):
    watched = Watched(layout.root.parent, monkeypatch, "pass")
    watched.task = Task("../run", "latents")
    watched.work.ask(watched.task, None, "token")
    watched.finish()
    assert watched.began == [] and "no longer there" in watched.work.progress(watched.task).output
