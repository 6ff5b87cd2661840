"""What training takes of its machine: read once a second for the heartbeat, without waiting for a GPU."""

import multiprocessing
import time

import psutil
import torch

from shared.schema import DeviceLoad

try:
    from pynvml import NVMLError  # of nvidia-ml-py, which torch asks how busy a GPU is
except ImportError:
    NVMLError = RuntimeError

UNREADABLE: tuple[type[Exception], ...] = (psutil.Error, NVMLError, RuntimeError, OSError, ModuleNotFoundError)
"""What a machine raises that does not tell: /proc hidden, a driver without the call (MIG, vGPU), no nvidia-ml-py."""


class LoadMeter:
    """Reads the load of this process, with its loader processes, since the last reading."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._busy, _ = _taken()

    def read(self, gpu: torch.device | None = None) -> DeviceLoad:
        """The load since the last call, over the whole life of the meter at the first, and that of the GPU that trains.

        Raises one of `UNREADABLE`.
        """
        (busy, resident), now = _taken(), time.monotonic()
        worked = sum(seconds - self._busy[pid] for pid, seconds in busy.items() if pid in self._busy)
        cores = worked / max(now - self._at, 1e-3)
        self._busy, self._at = busy, now
        return DeviceLoad(cpu_cores=round(max(cores, 0.0), 2), memory_gb=round(resident / 1e9, 2), **_gpu(gpu))


def _taken() -> tuple[dict[int, float], int]:
    """Processor seconds by process id, of this process and its loaders, and the resident bytes of all of them.

    Only children that Python started are asked: psutil would look for others in every process of the machine.
    """
    busy, resident = {}, 0
    for pid in (None, *(child.pid for child in multiprocessing.active_children())):
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                busy[process.pid] = float(times.user + times.system)
                resident += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it has ended since it was listed
    return busy, resident


def _gpu(which: torch.device | None) -> dict[str, float | None]:
    """Memory by the driver; how busy the GPU is only where its driver tells, and nvidia-ml-py is installed to ask it.

    The current device is of no use: each thread has its own, and that of the heartbeat is the first GPU whichever one trains.
    Nothing where it is not known which of several trains.
    """
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    if which is None and torch.cuda.device_count() > 1:
        return {}
    device = which or torch.device("cuda", 0)
    free, total = torch.cuda.mem_get_info(device)
    try:
        share: float | None = torch.cuda.utilization(device) / 100
    except UNREADABLE:
        share = None
    return {"gpu_share": share, "gpu_memory_gb": round((total - free) / 1e9, 1), "gpu_memory_total_gb": round(total / 1e9, 1)}
