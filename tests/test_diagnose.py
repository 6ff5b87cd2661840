"""`diagnose`: what it says of runs, in words, as JSON, and by its exit status."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from backend.__main__ import main
from backend.diagnosis_report import number, ranges
from shared.layout import RunLayout
from shared.schema import Event, RunState
from shared.writer import JsonlWriter, encode_line
from tests.reports import ALARM, HEALTHY, UNKNOWN, json_of, report_of
from tests.run_factory import make_run, probe_row
from tests.tiny_runs import start, stays

__all__ = ["stays"]


def test_a_healthy_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "fine")
    status, text = report_of(capsys, str(run.root))
    assert status == HEALTHY
    assert "OK: Posterior healthy" in text
    assert "resume" not in text
    assert {path.name for path in tmp_path.rglob("*.txt")} == set(), "nothing is written unless asked for"


def test_a_collapsed_run_names_evidence_limits_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "gone", collapse=True)
    status, text = report_of(capsys, str(run.root))
    assert status == ALARM
    assert "ALARM: Posterior collapse, since step" in text
    assert "evidence     at step 1,000: mi_gauss 0.01 (limit 0.1)" in text
    assert "Figures at step 1,000" in text and re.search(r"^  mi_gauss +0.01 nats / set +Information bound$", text, re.M)
    assert f"python -m backend resume {run.root} --remedy " in text
    report = json_of(capsys, str(run.root))["reports"][0]
    verdict = report["verdicts"][0]
    assert (verdict["kind"], verdict["severity"], report["severity"]) == ("collapse", "alarm", "alarm")
    assert verdict["began"] <= verdict["seen"] <= report["step"] == 1000
    assert list(report["commands"]) == verdict["remedies"]
    assert report["figures"]["latent_dims"] == 64


def test_a_run_may_be_looked_for_by_the_beginning_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine-20261130-1", "mine-20261130-2", "other"):
        make_run(tmp_path, name)
    assert main(["diagnose", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'mine'}: no such file or folder; did you mean {tmp_path / 'mine-20261130-2'}?\n"
    ), "the newest"


def test_sensitivity_decides_how_soon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_with(tmp_path, [row_at(step, dead=step >= 650) for step in range(50, 1001, 50)])
    seen = [
        json_of(capsys, str(run.root), "--sensitivity", s)["reports"][0]["verdicts"][0]["seen"] for s in ("early", "balanced")
    ]
    assert seen == [700, 750]


def test_what_is_over_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_with(tmp_path, [row_at(step, dead=650 <= step <= 1000) for step in range(50, 2001, 50)])
    status, text = report_of(capsys, str(run.root))
    assert status == HEALTHY
    assert "Earlier, and over\n- alarm: Posterior collapse, from step 650 to 1,050 (seen at 750)." in text


def row_at(step: int, *, dead: bool = False) -> dict[str, Any]:
    row = probe_row(step, np.random.default_rng(0))
    return {**row, "step": step, **({"kl": 0.02, "mi_gauss": 0.01, "active_units": 0} if dead else {})}


def run_with(folder: Path, rows: list[dict[str, Any]]) -> RunLayout:
    """A run with these evaluations alone."""
    run = make_run(folder, "run")
    lines = [encode_line(row["step"], {name: value for name, value in row.items() if name != "step"}) for row in rows]
    run.evaluations.write_bytes(b"".join(lines))
    return run


def test_what_could_not_be_judged_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "small")
    run.evaluations.write_bytes(encode_line(100, {"kind": "probe", "kl": 3.0, "patients": 8, "source": "training window"}))
    status, text = report_of(capsys, str(run.root))
    assert status == UNKNOWN
    assert "the probe has fewer than 32 patients" in text
    assert "Evaluations are of a training window" in text
    run.evaluations.unlink()
    status, text = report_of(capsys, str(run.root))
    assert status == UNKNOWN
    assert "no probe evaluation was written" in text


def test_a_running_run_has_to_be_stopped_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "on", state=RunState.RUNNING, collapse=True)
    assert "The run goes on: stop it" in report_of(capsys, str(run.root))[1]


def test_a_run_of_another_trainer_gets_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "foreign", collapse=True)
    info = orjson.loads(run.run_json.read_bytes())
    run.run_json.write_bytes(orjson.dumps({**info, "config": {}}))
    status, text = report_of(capsys, str(run.root))
    assert status == ALARM
    assert "python -m backend resume" not in text
    assert "remedies" in text


def test_forecast_now_or_as_last_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "rising", steps=400)
    row = {**probe_row(400, np.random.default_rng(0)), "beta": 0.08, "per_dim": {"shares": [0.9, 0.5, 0.1] + [0.0] * 61}}
    run.evaluations.write_bytes(encode_line(400, row))
    text = report_of(capsys, str(run.root))[1]
    assert "At beta 0.1, reached at step 500, 2 of 64 units will remain on their own strength" in text
    run.evaluations.write_bytes(encode_line(600, {**row, "beta": 0.1}))
    events = JsonlWriter(run.events)
    events.write_record(Event(step=400, kind="forecast", message="2 of 64 units will remain"))
    events.close()
    text = " ".join(report_of(capsys, str(run.root))[1].split())
    assert "what lives now is what remains. Foretold at step 400: 2 of 64 units will remain" in text
    assert re.search(r"Now \d+ are active, with [\d.e-]+ nats per set\.", text), "what became of it"
    run.evaluations.write_bytes(encode_line(600, {**row, "beta": 0.1, "active_units": None}))
    assert "are active, with" not in report_of(capsys, str(run.root))[1], "it was not measured"


def test_a_folder_of_runs_has_one_report_each_and_the_most_serious_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "fine")
    make_run(tmp_path, "gone", collapse=True)
    broken = RunLayout(tmp_path / "broken")
    broken.root.mkdir()
    broken.run_json.write_text("{")
    assert main(["diagnose", str(tmp_path), "--json"]) == ALARM
    out, err = capsys.readouterr()
    assert [report["severity"] for report in orjson.loads(out)["reports"]] == ["ok", "alarm"]
    assert "left out" in err
    assert "broken" in err


def test_report_is_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "runs", "fine")
    status, text = report_of(capsys, str(run.root), "--output", str(tmp_path / "new/reports"))
    assert (tmp_path / "new/reports/collapse_analysis.txt").read_text() == text
    report_of(capsys, str(run.root), "--output", str(tmp_path / "one.json"))
    assert orjson.loads((tmp_path / "one.json").read_bytes())["exit_status"] == status
    report_of(capsys, str(run.root), "--output", str(tmp_path / "one.txt"))
    assert (tmp_path / "one.txt").read_text() == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no such file or folder"),
        (["empty"], "neither a run (run.json), nor a folder of runs, nor TensorBoard logs"),
        (["broken"], "not valid JSON"),
        (["fine", "--tag", "kl=KL"], "are for TensorBoard logs"),
        (["fine", "--tag", "kl"], "expected NAME=TAG"),
        (["fine", "--kl_mean_over", "0"], "at least 1"),
        (["fine", "--output", "fine/run.json/x.txt"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    make_run(tmp_path, "fine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_real_collapsed_training_is_diagnosed(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start(stays, tmp_path, beta_max=50.0, beta_warmup_steps=0, free_bits=0.0, max_epochs=12)
    report = json_of(capsys, str(run.root))["reports"][0]
    assert report["severity"] == "alarm"
    assert "collapse" in [verdict["kind"] for verdict in report["verdicts"]]
    assert report["unjudged"] == []


def test_short_numbers_and_ranges() -> None:
    assert [number(x) for x in (3.0, 1234567.0, 0.012345, float("inf"))] == ["3", "1,234,567", "0.01235", "inf"]
    assert ranges([5, 0, 1, 2, 7, 8]) == "0-2, 5, 7-8"
    assert ranges([]) == ""
