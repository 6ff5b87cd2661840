"""The load that the heartbeat carries: what the process and its loaders take, and machines that do not tell."""

import multiprocessing
import threading
import time
from datetime import timedelta

import psutil
import pytest
import torch

from backend import load
from backend.load import LoadMeter
from backend.recorder import RunRecorder
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import Heartbeat, RunInfo, RunState


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), RuntimeError("MIG"), load.NVMLError(3), OSError(5, "gone")])
@pytest.mark.parametrize("where", ["begin", "read"])
def test_a_meter_that_fails_does_not_stop_the_heart(tmp_path, monkeypatch, error, where):
    beaten = threading.Semaphore(0)

    class Meter:
        def __init__(self) -> None:
            if where == "begin":
                raise error

        def read(self, gpu):
            raise error

    recorder = RunRecorder(RunLayout(tmp_path), RunInfo(name="x", config={}))
    written = recorder._write_beat
    monkeypatch.setattr(recorder, "_write_beat", lambda: (written(), beaten.release()))
    monkeypatch.setattr("backend.recorder.LoadMeter", Meter)
    monkeypatch.setattr("backend.recorder.HEARTBEAT_EVERY", timedelta(milliseconds=5))
    recorder.begin()
    try:
        assert all(beaten.acquire(timeout=5) for _ in range(3))
    finally:
        recorder.end(RunState.FINISHED)
    assert read_record(recorder.layout.heartbeat, Heartbeat).load is None


def test_loaders_count_and_other_processes_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(psutil.Process, "children", lambda *args, **kwargs: pytest.fail("reads every process of the machine"))
    alone = LoadMeter().read()
    assert alone.memory_gb is not None and alone.memory_gb > 0
    began = multiprocessing.get_context("spawn").Event()
    child = multiprocessing.get_context("spawn").Process(target=_wait_for, args=(began,))
    child.start()
    try:
        busy, resident = load._taken()
        assert child.pid in busy and len(busy) == 2
        assert resident > psutil.Process().memory_info().rss
    finally:
        began.set()
        child.join()
    meter, spun = LoadMeter(), time.process_time() + 0.05
    while time.process_time() < spun:
        pass
    assert meter.read().cpu_cores > 0


def _wait_for(event) -> None:
    event.wait(30)


@pytest.mark.parametrize("error", [load.NVMLError(3), RuntimeError("no such device"), ModuleNotFoundError("nvidia-ml-py")])
def test_a_gpu_that_does_not_say_how_busy_it_is_still_shows_its_memory(monkeypatch, error):
    def utilization(device) -> int:
        raise error

    gpus(monkeypatch, 1)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    assert load._gpu(None) == {"gpu_share": None, "gpu_memory_gb": 6.0, "gpu_memory_total_gb": 8.0}


def gpus(monkeypatch, number: int) -> None:
    """As a machine with so many, the one numbered N with N + 2 GB free of 8 and busy for N percent."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ((device.index + 2) * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: device.index)


class OnThird(torch.Tensor):
    """Values that say they lie on the third GPU."""

    is_cuda = True
    device = torch.device("cuda", 2)


def test_the_heartbeat_is_about_the_gpu_that_trains(tmp_path, monkeypatch):
    gpus(monkeypatch, 4)
    beaten = threading.Semaphore(0)
    recorder = RunRecorder(RunLayout(tmp_path), RunInfo(name="x", config={}))
    written = recorder._write_beat
    monkeypatch.setattr(recorder, "_write_beat", lambda: (written(), beaten.release()))
    monkeypatch.setattr("backend.recorder.HEARTBEAT_EVERY", timedelta(milliseconds=5))
    recorder.begin()
    try:
        while recorder.beat.load is None:  # the first beat is written before anything is measured
            assert beaten.acquire(timeout=5)
        assert recorder.beat.load.gpu_memory_gb is None, "which of four is not known before the first step"
        recorder.put("loss", torch.tensor(1.0).as_subclass(OnThird))
        recorder.commit(1)
        recorder.commit(2)
        assert all(beaten.acquire(timeout=5) for _ in range(2))
    finally:
        recorder.end(RunState.FINISHED)
    told = read_record(recorder.layout.heartbeat, Heartbeat).load
    assert (told.gpu_share, told.gpu_memory_gb) == (0.02, 4.0)
