"""`preflight`: the forecast from the data and the cost of a run, against theory and against runs that were made."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from backend import rehearsal
from backend.__main__ import main
from backend.batches import Standardiser, StayDataset, StaySampler
from backend.plan import Plan
from backend.preflight_figures import probes_of
from backend.preflight_report import duration, size
from backend.rehearsal import first_batches
from backend.spectrum import correlation, covariance_spectrum, dense_sets
from backend.store import PreparedDataset
from shared.configuring import build_config
from shared.layout import SNAPSHOT_KINDS
from tests.tiny_runs import TINY, start, stays

__all__ = ["stays"]


@pytest.fixture(scope="module")
def data(stays: Path) -> PreparedDataset:
    return PreparedDataset.open(stays)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MOST_STEPS", 3)


def preflight(stays: Path, out: Path, *words: str, **options: Any) -> int:
    flat = [text for name, value in {**TINY, "output_dir": out, **options}.items() for text in (f"--{name}", str(value))]
    return main(["preflight", "--data", str(stays), *flat, *words])


def report_of(capsys: pytest.CaptureFixture[str], stays: Path, out: Path, **options: Any) -> dict[str, Any]:
    status = preflight(stays, out, "--json", **options)
    return {**orjson.loads(capsys.readouterr().out), "status": status}


# The spectrum


def test_spectrum_is_that_of_a_naive_loop(data: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set by set, event by event, in one matrix; the product reads in chunks."""
    monkeypatch.setattr("backend.spectrum.CHUNK_VALUES", 4000)
    scaler, variables = Standardiser(data), len(data.info.variables)
    rows, observed = [], 0
    for stay in data.stays.iloc[data.split_indices("train")].itertuples():
        for index in range(stay.set_start, stay.set_start + stay.set_count):
            row = np.zeros(2 * variables)
            for event in range(data.set_start[index], data.set_start[index + 1]):
                variable = data.event_variable[event : event + 1]
                row[variable] = scaler(variable, data.event_value[event : event + 1])
                row[variables + variable.astype(int)] = 1
                observed += int(scaler.modelled[variable][0])
            rows.append(row)
    dense = np.array(rows)
    found = covariance_spectrum(data)
    assert (found.sets, found.observed) == (len(dense), pytest.approx(observed / len(dense), rel=0.01))
    values = np.linalg.eigvalsh(np.cov(dense[:, :variables].T, bias=True))[::-1]
    np.testing.assert_allclose(found.values, values.clip(0), atol=1e-9)
    varies = dense[:, variables:].std(axis=0) > 0
    occurs = np.corrcoef(dense[:, variables:][:, varies].T)
    np.testing.assert_allclose(found.presence, np.linalg.eigvalsh(occurs)[::-1].clip(0), atol=1e-9)
    assert len(covariance_spectrum(data, presence=False).presence) == 0


def test_large_data_are_sampled_down(data: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = covariance_spectrum(data)
    monkeypatch.setattr("backend.spectrum.MOST_SETS", whole.sets // 2)
    shares: list[float] = []
    half = covariance_spectrum(data, progress=shares.append)
    assert half.sets == whole.sets // 2
    assert shares[-1] == 1
    np.testing.assert_allclose(half.values[:3], whole.values[:3], rtol=0.2)


def test_a_set_is_dense_with_zeros_where_nothing_was_observed(data: PreparedDataset) -> None:
    dense = dense_sets(data, Standardiser(data), np.array([0, 1]))
    variables = len(data.info.variables)
    present = np.unique(data.event_variable[: data.set_start[1]])
    assert set(np.flatnonzero(dense[0, variables:])) == set(present.tolist())
    assert not dense[0, :variables][np.setdiff1d(np.arange(variables), present)].any()
    assert correlation(np.diag([4.0, 0.0, 1.0])).tolist() == [[1, 0], [0, 1]]


# The command


def test_report_says_what_is_left_and_what_it_costs(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(stays, tmp_path / "runs", beta_max=0.5, free_bits=0.0) == 0
    out, err = capsys.readouterr()
    assert "Forecast at beta_max 0.5: 4 of 4 units will live" in out
    assert "<- beta_max" in out
    assert "on nothing lives" in out
    assert "Limits of the forecast" in out
    for cost in ("Memory  ", "Time    ", "Disk    "):
        assert f"\n{cost}" in out
    assert "rehearsing" in err, "progress does not stand in the report"
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_json_around_beta_max(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, stays, tmp_path, beta_max=1.0, free_bits=0.0)
    assert [outlook["beta"] for outlook in report["outlooks"]] == [0.25, 0.5, 1, 2, 4, 8, 16]
    units = [outlook["units"] for outlook in report["outlooks"]]
    assert units == sorted(units, reverse=True)
    assert units[-1] == 0
    assert 4 < report["largest_beta"] < 16
    assert report["measured"]["parameters"] > 0
    assert report["concerns"] == []
    assert list(tmp_path.iterdir()) == []


def test_a_collapse_that_is_foreseen_is_a_concern(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, stays, tmp_path, beta_max=50.0, free_bits=0.0)
    assert report["status"] == 3
    assert "no unit is foreseen to live at beta 50" in report["concerns"][0]
    assert report_of(capsys, stays, tmp_path, beta_max=50.0, free_bits=0.5)["status"] == 0, "free bits hold them"


def test_a_fixed_decoder_variance_moves_the_edge(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = report_of(capsys, stays, tmp_path, decoder_variance=0.1, beta_max=1.0)
    assert {outlook["decoder_variance"] for outlook in fixed["outlooks"]} == {0.1}
    learned = report_of(capsys, stays, tmp_path, beta_max=1.0)
    assert fixed["largest_beta"] > learned["largest_beta"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"decoder": "chamfer"}, "no likelihood"),
        ({"stage": "finetune"}, "classifier alone"),
        ({"beta_max": 0.0}, "beta_max is 0"),
    ],
)
def test_no_forecast_where_theory_is_silent(
    stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], reason: str
) -> None:
    assert preflight(stays, tmp_path, **options) == 0
    out = capsys.readouterr().out
    assert "No forecast: " in out
    assert reason in out
    assert "\nTime    " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--decoder_variance", "0"], "has to be above 0"),
        (["--resume_from_checkpoint", "x"], "diagnose RUN"),
        (["--batch_sise", "4"], "did you mean '--batch_size'"),
        (["--label", "nothing"], "is not an outcome"),
    ],
)
def test_bad_input(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert preflight(stays, tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


# The rehearsal


def test_first_step_is_the_largest_there_can_be(data: PreparedDataset) -> None:
    config = build_config({**TINY, "data_dir": str(data.path), "batch_size": 3})
    train = StayDataset(data, "train", config.data)
    batches = first_batches(train, Plan.of(config, train, "cpu"), config)
    events = data.stays["event_count"].to_numpy()
    assert batches[0] == batches[1]
    assert sorted(events[batches[0]]) == sorted(events[train.rows])[-3:]
    assert len(batches) == 2 * rehearsal.MOST_STEPS
    usual = iter(StaySampler(train.rows, 3, 1, config.trainer.seed))
    assert batches[2:4] == [next(usual), next(usual)]


def test_too_little_memory_names_the_options(
    stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(rehearsal, "_fit", full)
    assert preflight(stays, tmp_path) == 2
    error = capsys.readouterr().err
    assert "the largest 4 stays of the training split do not fit into memory" in error
    assert "data.batch_size" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_foretold_disk_is_that_of_a_run(stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, stays, tmp_path)
    run = start(stays, tmp_path)
    measured = report["measured"]
    steps = len(run.metrics.read_bytes().splitlines())
    assert report["totals"]["steps"] == steps
    assert measured["line_bytes"] == pytest.approx(run.metrics.stat().st_size / steps, rel=0.1)
    (final,) = run.checkpoints.glob("final_*.ckpt")
    assert measured["checkpoint_bytes"] == pytest.approx(final.stat().st_size, rel=0.1)
    last = sum(run.snapshots(kind)[-1][1].stat().st_size for kind in SNAPSHOT_KINDS)
    assert measured["snapshot_bytes"] == pytest.approx(last, rel=0.2)
    assert report["totals"]["disk_bytes"] > sum(path.stat().st_size for path in run.root.rglob("*") if path.is_file()) * 0.7


def test_probes_are_as_often_as_asked_for_and_as_their_time_allows() -> None:
    config = build_config({"probe_time_budget": 0.02, "update_frequency": 200})
    assert probes_of(config, 300, working_s=50, probe_s=2.0) == 1 + 1, "as seldom as asked for"
    assert probes_of(build_config({}), 300, working_s=50, probe_s=2.0) == 5 + 1 + 1, "ten seconds in any case"
    assert probes_of(config, 10_000, working_s=1e6, probe_s=1.0) == 10_000 // 200 + 1
    assert probes_of(config, 10_000, working_s=1000, probe_s=5.0) == 4 + 1 + 1
    assert probes_of(config, 10_000, working_s=1000, probe_s=0.0) == 0


def test_words_for_sizes_and_times() -> None:
    assert [size(x) for x in (12, 1234, 5.6e6, 2e12)] == ["12 B", "1.23 kB", "5.6 MB", "2 TB"]
    assert [duration(x) for x in (0.1234, 61.2, 90_000)] == ["0.12 s", "0:01:01", "1 day, 1:00:00"]


@pytest.mark.slow
def test_physionet_is_looked_ahead_at(physionet_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directions of what is measured together live far beyond those of the values: trained, beta 8 keeps one unit and 12 none."""
    prepared = tmp_path / "physionet"
    assert main(["prepare", "physionet2012", str(physionet_dir), str(prepared)]) == 0
    spectrum = covariance_spectrum(PreparedDataset.open(prepared))
    capsys.readouterr()
    assert 8 < spectrum.largest_beta() < 12
    assert [spectrum.outlook(beta, 256).units for beta in (0.5, 1.0, 2.0, 5.0, 12.0)] == [23, 10, 5, 1, 0]
