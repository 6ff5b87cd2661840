"""How long a step waited for its batches: measured in the loader, logged, shown; and workers that hold no copy of the data."""

import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import Dataset

from backend.batches import StayDataset, fixed_batches, loader
from backend.preparing import build
from backend.simulate import Simulation
from backend.store import PreparedDataset
from dashboard.charts import Look
from dashboard.live import panels
from dashboard.live.cards import SECTIONS, WAITING
from shared.config import DataConfig
from shared.reader import JsonlTail
from tests.plotted import plotted
from tests.run_factory import make_run
from tests.test_live_cards import snapshot_of
from tests.tiny_runs import start, stays

__all__ = ["stays"]


class Slow(Dataset):
    """Batches that take their time."""

    config = SimpleNamespace(persistent_workers=False)

    def __getitem__(self, seconds: list[float]) -> float:
        until = time.perf_counter() + seconds[0]
        while time.perf_counter() < until:
            pass
        return seconds[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_is_what_the_consumer_waited_and_no_more(workers: int) -> None:
    watched = loader(Slow(), [[0.02]] * 6, workers, False)  # type: ignore[list-item]
    began = time.perf_counter()
    for _ in watched:
        until = time.perf_counter() + 0.1
        while time.perf_counter() < until:
            pass
    before = watched.waited_s
    assert before <= time.perf_counter() - began - 0.6, "what is done with a batch is no waiting"
    assert workers or before >= 0.12, "without a worker, making the batches is"
    assert len(list(watched)) == 6 and watched.waited_s > before, "a second pass adds to the first"


def test_every_step_tells_how_long_it_waited(stays: Path, tmp_path: Path) -> None:
    run = start(stays, tmp_path, max_epochs=1)
    found = JsonlTail(run.metrics).read()
    assert len(found) > 3
    for row in found:
        assert 0 < row["wait_s"] < row["step_s"]


def test_the_share_of_waiting_is_shown_beside_what_is_too_much(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=300)
    assert WAITING in next(section for section in SECTIONS if section.key == "pace").panels
    shown = plotted(panels.figure(snapshot_of(tmp_path), WAITING, Look()))
    (curve,) = shown.data
    assert np.asarray(curve.y) == pytest.approx(0.003 / 0.31)
    assert any("2 %" in (note.text or "") for note in shown.layout.annotations)


class Private(Dataset):
    """Reads as a `StayDataset` does; a batch is the memory that its process has for itself, in bytes."""

    def __init__(self, stays: StayDataset) -> None:
        self.stays = stays
        self.config = stays.config

    def __getitem__(self, rows: list[int]) -> int:
        assert self.stays[rows].events
        found = re.search(r"Private_Dirty: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
        assert found
        return 1024 * int(found[1])


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="private memory is read from Linux")
def test_a_worker_holds_no_copy_of_the_data(tmp_path: Path) -> None:
    private, sizes = [], []
    for patients in (100, 3000):
        build(Simulation(patients, 0), tmp_path / str(patients), seed=0)
        for file in (tmp_path / str(patients)).glob("*.npy"):
            with file.open("rb") as written:
                os.fsync(written.fileno())  # pages that wait for the disk count as dirty, whoever wrote them
        data = PreparedDataset.open(tmp_path / str(patients))
        dataset = StayDataset(data, "train", DataConfig())
        sizes.append(data.event_value.nbytes + data.event_variable.nbytes + data.set_start.nbytes + data.set_minute.nbytes)
        rows = dataset.rows[np.linspace(0, len(dataset.rows) - 1, 64).astype(int)]  # from everywhere, and as many of both
        private.append(list(loader(Private(dataset), fixed_batches(rows, 16), 1, False))[-1])
    assert sizes[1] > sizes[0] + 8e6
    assert private[1] < private[0] + 3e6
