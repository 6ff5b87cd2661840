"""Wall seconds and peak memory of preparing PhysioNet 2012 from its archives, as one command of a fresh process."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import psutil

from tests.benchmarks.harness import REPOSITORY, parser_of, report

SAMPLE_EVERY_S = 0.02


def main(argv: list[str]) -> None:
    """Prepare the challenge's sets a few times; report every run, and the slowest and largest as figures."""
    parser = parser_of("prepare", __doc__)
    default = REPOSITORY.parent / "shared" / "data" / "physionet2012"
    parser.add_argument("--src", type=Path, default=default, help="folder with set-*.tar.gz and Outcomes-*.txt")
    parser.add_argument("--runs", type=int, default=3, help="times to prepare it")
    options = parser.parse_args(argv)
    rows = [measure(options.src) for _ in range(options.runs)]
    seconds, peak = (max(float(str(row[key])) for row in rows) for key in ("seconds", "peak_gb"))
    report("prepare", rows, {"runs": options.runs, "seconds": round(seconds, 2), "peak_gb": round(peak, 3)})


def measure(src: Path) -> dict[str, object]:
    """One preparation into a temporary folder: its size, wall seconds, and peak memory of all its processes in GB (10^9)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "prepared"
        start = time.perf_counter()
        command = [sys.executable, "-m", "backend", "prepare", "physionet2012", str(src), str(out)]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
            peak = peak_memory(process)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"prepare ended with status {process.returncode}")
        info = orjson.loads((out / "dataset.json").read_bytes())
        return {
            "stays": sum(info["stays"].values()), "events": info["events"],
            "seconds": seconds, "events_per_s": info["events"] / seconds, "peak_gb": peak / 1e9,
            "out_mb": sum(file.stat().st_size for file in out.iterdir()) / 1e6,
        }  # fmt: skip


def peak_memory(process: "subprocess.Popen[bytes]") -> int:
    """The largest sum of resident bytes over the process and its children until it ends; mapped files count."""
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, resident(root))
        time.sleep(SAMPLE_EVERY_S)
    return peak


def resident(root: psutil.Process) -> int:
    """Resident bytes of a process tree at this moment; 0 for what has just ended."""
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


if __name__ == "__main__":
    main(sys.argv[1:])
