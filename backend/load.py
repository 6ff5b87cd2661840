"""What training takes of its machine: read once a second for the heartbeat, without waiting for a GPU."""

import time

import psutil
import torch

from shared.schema import DeviceLoad


class LoadMeter:
    """Reads the load of this process, with its loader processes, since the last reading."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._busy, self._at = self._processor_seconds(), time.monotonic()

    def read(self) -> DeviceLoad:
        """The load since the last call; over the whole life of the meter at the first."""
        busy, now = self._processor_seconds(), time.monotonic()
        cores = (busy - self._busy) / max(now - self._at, 1e-3)
        self._busy, self._at = busy, now
        resident = sum(self._of_each("memory_info", lambda found: found.rss))
        return DeviceLoad(cpu_cores=round(max(cores, 0.0), 2), memory_gb=round(resident / 1e9, 2), **_gpu())

    def _processor_seconds(self) -> float:
        return sum(self._of_each("cpu_times", lambda found: found.user + found.system))

    def _of_each(self, what: str, take: object) -> list[float]:
        """A figure of this process and of each of its children that still lives."""
        found = []
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                found.append(float(take(getattr(process, what)())))  # type: ignore[operator]
            except psutil.NoSuchProcess:
                continue
        return found


def _gpu() -> dict[str, float | None]:
    """Memory by the driver; how busy the GPU is only where the package nvidia-ml-py is installed, which torch asks for it."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    try:
        share: float | None = torch.cuda.utilization() / 100
    except ModuleNotFoundError:
        share = None
    return {"gpu_share": share, "gpu_memory_gb": round((total - free) / 1e9, 1), "gpu_memory_total_gb": round(total / 1e9, 1)}
