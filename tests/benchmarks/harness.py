"""What every benchmark ends with: a table for people, then one line of JSON for machines."""

import argparse
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "lightning", "streamlit", "plotly", "pandas", "pyarrow")
REPOSITORY = Path(__file__).resolve().parents[2]


def parser_of(name: str, said: str | None) -> argparse.ArgumentParser:
    """For the options of one benchmark; its help is the benchmark's docstring as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks {name}", description=said, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def report(name: str, rows: list[dict[str, object]], figures: dict[str, object]) -> None:
    """Print `rows` as a table and, as the very last line, one JSON object with `figures` and where they were measured."""
    print(f"\n{name}\n{table(rows)}\n", flush=True)
    line = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        **figures,
    }
    print(json.dumps(line), flush=True)


def table(rows: Sequence[dict[str, object]]) -> str:
    """Aligned columns: the union of all keys in order of first appearance; text to the left, numbers to the right."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    body = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *body]) for i in range(len(columns))]
    numeric = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]

    def aligned(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "\n".join([aligned(columns), "  ".join("-" * width for width in widths), *map(aligned, body)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def machine() -> dict[str, object]:
    """CPU model, usable cores, memory in GB (10^9 bytes) and the first GPU's name, or None."""
    return {"cpu": _cpu_model(), "cores": _usable_cores(), "memory_gb": _memory_gb(), "gpu": _gpu()}


def versions() -> dict[str, str | None]:
    """Versions as installed, read from package metadata so that nothing heavy is imported; None where absent."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """Short hash of the checkout, with `+` when tracked files differ from it; None outside a repository."""
    short = _output(["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"])
    if short is None:
        return None
    changed = _output(["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"])
    return f"{short}+" if changed else short


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _gpu() -> str | None:
    names = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return names.splitlines()[0] if names else None


def _output(command: list[str]) -> str | None:
    """What a command prints, or None when it is absent or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None
