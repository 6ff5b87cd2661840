"""What `kill -9` leaves of a run at many moments, from one run that nothing disturbed; and signals at chosen moments."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.callbacks import StepSeed
from backend.checkpoints import AtomicCheckpointIO, CheckpointWriter
from backend.lit import SeqSetVAEModule
from backend.recorder import RunRecorder
from backend.saving import Saving
from shared.layout import RunLayout
from tests.tiny_runs import (
    metrics,
    newest,
    start,
)  # fmt: skip

TOTAL = 17


class Camera:
    """Copies the run folder at named moments."""

    def __init__(self, runs: Path, images: Path) -> None:
        self.runs, self.images = runs, images
        self.on = False

    def __call__(self, moment: str) -> None:
        if self.on:
            step = metrics(newest(self.runs))[-1]["step"] if newest(self.runs).metrics.exists() else 0
            target = self.images / f"{step:02d}-{moment}"
            for number in range(2, 100):
                if not target.exists():
                    break
                target = self.images / f"{step:02d}-{moment}-{number}"
            beating = shutil.ignore_patterns(".heartbeat.json.*.tmp")  # a thread writes these meanwhile
            shutil.copytree(newest(self.runs).root, target, ignore=beating)


def before(owner: type, name: str, shoot: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    original = getattr(owner, name)

    def photographed(*args: object, **kwargs: object) -> object:
        shoot()
        return original(*args, **kwargs)

    patch.setattr(owner, name, photographed)


@pytest.fixture(scope="module")
def undisturbed(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunLayout, Path]]:
    """The run that nothing disturbed, and the folder of its images: what a kill would have left at each moment."""
    base = tmp_path_factory.mktemp("undisturbed")
    camera = Camera(base / "runs", base / "images")
    (base / "images").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        before(StepSeed, "on_train_batch_start", lambda: camera("batch"), patch)
        before(SeqSetVAEModule, "validation_step", lambda: camera("validating"), patch)
        before(RunRecorder, "evaluation", lambda: camera("evaluated"), patch)
        before(AtomicCheckpointIO, "_write", lambda: camera("saving"), patch)
        before(CheckpointWriter, "_describe", lambda: camera("describing"), patch)
        before(CheckpointWriter, "save_if_best", lambda: camera("best"), patch)
        before(Saving, "finish", lambda: camera("finishing"), patch)
        before(RunRecorder, "end", lambda: camera("ending"), patch)
        camera.on = True
        run = start(stays, base / "runs")
    yield run, base / "images"
    shutil.rmtree(base)


def copied(images: Path, moment: str, tmp_path: Path) -> RunLayout:
    return RunLayout(Path(shutil.copytree(images / moment, tmp_path / moment)))


def signalled(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, at: int, number: int) -> None:
    """Send this process a signal at the `at`-th call of a method."""
    calls = iter(range(1, 10_000))
    before(owner, name, lambda: os.kill(os.getpid(), number) if next(calls) == at else None, monkeypatch)
