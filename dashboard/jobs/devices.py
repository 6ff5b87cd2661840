"""The processors and GPUs of this machine with their memory and load, read when somebody looks and at most every few seconds."""

import math
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

GPU_FIELDS = ("index", "uuid", "name", "memory.used", "memory.total", "utilization.gpu")
NUMBERS = 3
"""Fields after the name, which may hold a comma."""
KEEP_S = 4.0
TIMEOUT_S = 5.0
KEY = ".devices"
"""Listened to by pages that show load; no file event ever has this key."""


@dataclass(frozen=True)
class Gpu:
    """One card; None is what its driver does not say."""

    index: int
    uuid: str
    name: str
    used_mib: float | None
    total_mib: float | None
    utilisation: float | None
    """Share of the last moment in which it computed, in percent."""
    processes: int = 0
    """Processes that compute on it, whoever started them."""

    @property
    def memory(self) -> str:
        """In use of all there is, in words."""
        if self.used_mib is None or not self.total_mib:
            return "memory not told"
        return f"{self.used_mib / 1024:.1f} of {self.total_mib / 1024:.0f} GiB memory"

    @property
    def memory_share(self) -> float:
        """The same as a share; 0 where it is not told."""
        return self.used_mib / self.total_mib if self.used_mib is not None and self.total_mib else 0.0


@dataclass(frozen=True)
class Machine:
    """One look at the machine."""

    cores: int
    cpu_percent: float
    load: float | None
    """Processes that want a core, mean of the last minute."""
    used_bytes: int
    total_bytes: int
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
    """Why GPUs cannot be seen although there seem to be some."""

    @property
    def token(self) -> str:
        """Changes when what people see of the load does."""
        gpus = [(g.index, g.processes, round((g.used_mib or 0) / 256), round((g.utilisation or 0) / 5)) for g in self.gpus]
        return f"{round(self.cpu_percent / 5)} {round(self.used_bytes / 2**28)} {gpus} {self.problem}"


def cpu_times() -> tuple[float, float]:
    """Seconds of all cores since the machine was started: all of them, and those in which nothing ran. (psutil.cpu_percent keeps
    its last look per thread, and pages are drawn by many.)
    """
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0), idle


@dataclass
class Devices:
    """Looks at the machine for all sessions together."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _seen: Machine | None = None
    _at: float = -math.inf
    _times: tuple[float, float] = field(default_factory=cpu_times)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> Machine:
        """The machine now, or as it was up to four seconds ago."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._at > KEEP_S:
                self._seen, self._at = self._read(), time.monotonic()
            return self._seen

    def _read(self) -> Machine:
        gpus, problem = read_gpus(self.environment)
        memory = psutil.virtual_memory()
        before, self._times = self._times, cpu_times()
        passed, idle = (now - then for now, then in zip(self._times, before, strict=True))
        return Machine(
            cores=psutil.cpu_count() or 1,
            cpu_percent=100 * min(max(1 - idle / passed, 0.0), 1.0) if passed > 0 else 0.0,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            used_bytes=memory.total - memory.available,
            total_bytes=memory.total,
            gpus=visible(gpus, self.environment.get("CUDA_VISIBLE_DEVICES")),
            problem=problem,
        )


def read_gpus(environment: Mapping[str, str]) -> tuple[tuple[Gpu, ...], str | None]:
    """What nvidia-smi says, and what is wrong if it cannot say; without nvidia-smi there are no GPUs, and nothing is wrong."""
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return (), None
    try:
        cards = _ask(program, f"--query-gpu={','.join(GPU_FIELDS)}", environment)
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi did not answer within {TIMEOUT_S:.0f} s"
    except subprocess.CalledProcessError as error:
        said = (error.stdout + error.stderr).strip().splitlines()
        return (), f"nvidia-smi failed: {said[0] if said else f'exit status {error.returncode}'}"
    except OSError as error:
        return (), f"nvidia-smi cannot be run: {error.strerror}"
    try:
        running = _ask(program, "--query-compute-apps=gpu_uuid,pid", environment)
    except (subprocess.SubprocessError, OSError):
        running = ""  # some drivers do not tell; the cards are worth showing all the same
    return parse_gpus(cards, running), None


def _ask(program: str, query: str, environment: Mapping[str, str]) -> str:
    command = [program, query, "--format=csv,noheader,nounits"]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=True, env=dict(environment)
    ).stdout


def parse_gpus(cards: str, running: str = "") -> tuple[Gpu, ...]:
    """Cards from nvidia-smi's lines; a line of another form is left out, a field in brackets ([N/A]) is None."""
    busy = Counter(line.split(",")[0].strip() for line in running.splitlines() if "," in line)
    found = []
    for line in cards.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < len(GPU_FIELDS) or not cells[0].isdecimal():
            continue
        used, total, utilisation = (_number(cell) for cell in cells[-NUMBERS:])
        name = ", ".join(cells[2:-NUMBERS])
        found.append(Gpu(int(cells[0]), cells[1], name, used, total, utilisation, busy[cells[1]]))
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def visible(gpus: tuple[Gpu, ...], allowed: str | None) -> tuple[Gpu, ...]:
    """Those that the dashboard itself was given by CUDA_VISIBLE_DEVICES, as a batch system does; all when that is not set."""
    if allowed is None:
        return gpus
    names = [name.strip() for name in allowed.split(",") if name.strip()]
    return tuple(gpu for gpu in gpus if any(name == str(gpu.index) or gpu.uuid.startswith(name) for name in names))
