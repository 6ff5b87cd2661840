"""What every benchmark relies on: the command, the table, and a last line that a machine can read."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.benchmarks import harness
from tests.benchmarks.__main__ import benchmarks, main

ROOT = Path(__file__).resolve().parents[1]


def test_report_ends_with_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    harness.report("demo", [{"writer": "ours", "us": 1.25}], {"us_per_step": 1.25})
    lines = capsys.readouterr().out.splitlines()
    line = json.loads(lines[-1])
    assert line["benchmark"] == "demo" and line["us_per_step"] == 1.25
    assert set(line) == {"benchmark", "date", "machine", "versions", "commit", "us_per_step"}
    assert set(line["machine"]) == {"cpu", "cores", "memory_gb", "gpu"} and line["machine"]["cores"] >= 1
    assert {"python", "torch", "lightning", "streamlit", "plotly", "pandas", "pyarrow"} == set(line["versions"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line["date"])).total_seconds() < 60


def test_table_aligns_and_shows_gaps() -> None:
    shown = harness.table([{"name": "a", "us": 1.0}, {"name": "longer", "rows": 12345}])
    assert shown.splitlines() == [
        "name    us    rows",
        "------  --  ------",
        "a        1       -",
        "longer   -  12,345",
    ]
    assert harness.table([]) == "\n"


def test_every_benchmark_is_listed_with_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "write_cost" in benchmarks() and "harness" not in benchmarks()
    for name, line in benchmarks().items():
        assert line, f"tests/benchmarks/{name}.py has no docstring"
        assert name in shown and line in shown


def test_unknown_benchmark_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["writecost"]) == 2
    assert "did you mean 'write_cost'?" in capsys.readouterr().err
    assert main(["?"]) == 2
    assert "there are:" in capsys.readouterr().err


def test_write_cost_from_the_command_line() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "write-cost", "--steps", "500", "--rounds", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["benchmark"] == "write_cost" and line["steps"] == 500
    assert 0 < line["us_per_step"] < 150, "ten times the limit: only a broken writer is that slow"
    assert line["p99_us"] > 0 and 100 < line["bytes_per_step"] < 400


def test_data_scale_from_the_command_line() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "data-scale", "--stays", "1000", "--rounds", "2", "--steps", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["benchmark"] == "data_scale" and line["stays"] == 1000 and line["events"] > 380_000
    assert line["rate_ratio"] > 0 and line["rate_ratio_from_disk"] > 0
    assert line["prepare_events_per_s"] > 0 and 0.05 < line["prepare_peak_gb"] < 2
