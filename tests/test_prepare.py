"""The command: help, errors, interruption, overwriting; splits and statistics, whatever the source."""

import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import backend.preparing
from backend.physionet2012 import Physionet2012
from backend.prepare_report import progress_on, summary_rows
from backend.preparing import build
from backend.simulate import Simulation
from backend.splits import split_by_subject
from backend.statistics import describe, training_statistics
from backend.store import PreparedDataset
from shared.errors import InputError
from tests.sources import OUTCOMES_HEADER, outcome, record, write_challenge, write_set

ROOT = Path(__file__).resolve().parents[1]
PREPARE = [sys.executable, "-m", "backend", "prepare"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PREPARE, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["physionet2012", "patient_ehr", "simulate"])
def test_help_teaches(kind: str) -> None:
    assert f"prepare {kind}" in run("--help").stdout
    text = run(kind, "--help").stdout
    assert "OUT" in text
    assert "--overwrite" in text


def test_a_preparation_from_the_command_line(tmp_path: Path) -> None:
    done = run("physionet2012", write_challenge(tmp_path / "src"), tmp_path / "deep" / "out", "--seed", "3", "--valid", "0.2")
    assert done.returncode == 0, done.stderr
    assert "reading set-a.tar.gz: 100%" in done.stdout
    assert "dropped: not recorded (-1)" in done.stdout
    assert "prepared" in done.stdout.splitlines()[-1]
    info = PreparedDataset.open(tmp_path / "deep" / "out").info
    assert info.stays == {"train": 13, "valid": 4, "test": 3}
    assert info.seed == 3


def test_bad_input_is_one_message_and_status_2(tmp_path: Path) -> None:
    done = run("physionet2012", tmp_path / "absent", tmp_path / "out")
    assert done.returncode == 2
    assert "absent: no such folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("simulate", tmp_path / "out", "--patients", "9", "--valid", "0.9", "--test", "0.3").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_preparing_loads_no_torch() -> None:
    code = (
        "import sys, backend.prepare, backend.patient_ehr, backend.physionet2012, backend.simulate, backend.prepare_report;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def start_endless(out: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A preparation far too large to end, and its hidden folder, once events are on disk."""
    process = subprocess.Popen([*PREPARE, "simulate", str(out), "--patients", "4000000"], cwd=ROOT, stderr=subprocess.PIPE)
    partial = out.parent / f".{out.name}.partial-{process.pid}"
    deadline = time.monotonic() + 30
    while not ((events := partial / "event_value.npy").exists() and events.stat().st_size > 100_000):
        assert process.poll() is None, "ended early"
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.02)  # the other process has no other way to say how far it is
    return process, partial


def test_kill_9_leaves_nothing_that_opens(tmp_path: Path) -> None:
    process, partial = start_endless(tmp_path / "out")
    process.kill()
    process.communicate()
    assert list(tmp_path.iterdir()) == [partial]
    for folder in (tmp_path / "out", partial):
        with pytest.raises(InputError):
            PreparedDataset.open(folder)
    done = run("simulate", tmp_path / "out", "--patients", "10")
    assert len(PreparedDataset.open(tmp_path / "out").stays) == 10
    assert f"{partial} is of another preparation: remove it unless that still runs" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process, _ = start_endless(tmp_path / "out")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode not in (0, 2)
    assert b"Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failure_late_in_the_work_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(Simulation(10, seed=0), tmp_path / "out", seed=0)
    before = (tmp_path / "out" / "dataset.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backend.preparing, "training_statistics", full)
    with pytest.raises(OSError, match="No space"):
        build(Simulation(20, seed=0), tmp_path / "out", seed=0, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "dataset.json").read_bytes() == before


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    build(Simulation(10, seed=0), tmp_path / "out", seed=0)
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        build(Simulation(20, seed=0), tmp_path / "out", seed=0)
    build(Simulation(20, seed=0), tmp_path / "out", seed=0, overwrite=True)
    assert len(PreparedDataset.open(tmp_path / "out").stays) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwrite_spares_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("Twelve years of work")
    with pytest.raises(InputError, match="is not a prepared data set"):
        build(Simulation(10, seed=0), tmp_path / "thesis", seed=0, overwrite=True)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


IDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=60)


@settings(deadline=None)
@given(IDS, st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 9), st.randoms())
def test_splits_depend_on_ids_and_seed_alone(ids: list[str], valid: float, test: float, seed: int, random: object) -> None:
    shares = split_by_subject(ids, valid=valid, test=test, seed=seed)
    shuffled = [*ids, ids[0]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_by_subject(shuffled, valid=valid, test=test, seed=seed) == shares
    found = list(shares.values())
    assert set(shares) == set(ids)
    assert abs(found.count("valid") - valid * len(shares)) <= 0.5
    assert abs(found.count("test") - test * len(shares)) <= 0.5


def test_another_seed_splits_otherwise_and_shares_are_checked() -> None:
    ids = [str(number) for number in range(1000)]
    first, second = (split_by_subject(ids, valid=0.15, test=0.15, seed=seed) for seed in (0, 1))
    assert first != second
    assert sum(first[key] == second[key] for key in ids) < 700
    with pytest.raises(InputError, match="below 1"):
        split_by_subject(ids, valid=0.5, test=0.5, seed=0)
    with pytest.raises(InputError, match="at least 0"):
        split_by_subject(ids, valid=-0.1, test=0.5, seed=0)


def test_statistics_come_from_the_training_split_alone(tmp_path: Path) -> None:
    source = tmp_path / "src"
    shares = split_by_subject([str(n) for n in range(1, 41)], valid=0.15, test=0.15, seed=0)
    records = {n: record(n, f"00:07,HR,{n if shares[str(n)] == 'train' else 1e6}") for n in range(1, 41)}
    write_set(source, records)
    (source / "Outcomes-a.txt").write_text(OUTCOMES_HEADER + "".join(outcome(n) for n in records))
    info = build(Physionet2012(source), tmp_path / "out", seed=0)
    heart_rate = next(variable for variable in info.variables if variable.name == "HR")
    train = np.array([n for n in records if shares[str(n)] == "train"], dtype=np.float32)
    low, high = np.quantile(train, [0.001, 0.999])
    assert (heart_rate.count, heart_rate.low, heart_rate.high) == (28, pytest.approx(low), pytest.approx(high))
    clipped = np.clip(train, low, high)
    assert heart_rate.mean == pytest.approx(clipped.mean(), rel=1e-6)
    assert heart_rate.std == pytest.approx(clipped.std(), rel=1e-6)


def test_statistics_in_blocks_equal_statistics_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = build(Simulation(50, seed=0), tmp_path / "out", seed=0)
    data = PreparedDataset.open(tmp_path / "out")
    monkeypatch.setattr("backend.statistics.EVENTS_AT_ONCE", 700)
    names = [variable.name for variable in info.variables]
    units = {variable.name: variable.unit for variable in info.variables}
    assert training_statistics(tmp_path / "out", data.stays, names, units) == info.variables
    training = np.repeat(data.stays["split"] == "train", data.stays["event_count"]).to_numpy()
    for index, variable in enumerate(info.variables):
        values = data.event_value[training & (data.event_variable == index)]
        assert describe(variable.name, variable.unit, values) == variable
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_equal_values_are_constant_however_they_round() -> None:
    constant = describe("x", "", np.full(1001, 36.6, dtype=np.float32))
    assert (constant.constant, constant.std) == (True, 0.0)
    assert constant.mean == constant.low == constant.high == np.float32(36.6)
    nothing = describe("x", "", np.array([], dtype=np.float32))
    assert (nothing.count, nothing.mean, nothing.std, nothing.constant) == (0, None, None, False)


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    base = build(Simulation(20, seed=0), tmp_path / "a", seed=0)
    assert build(Simulation(20, seed=0), tmp_path / "b", seed=0).fingerprint == base.fingerprint
    assert build(Simulation(20, seed=0), tmp_path / "c", seed=1).fingerprint != base.fingerprint
    stays = pd.read_parquet(tmp_path / "b" / "stays.parquet")
    names = [variable.name for variable in base.variables]
    assert backend.preparing.fingerprint(tmp_path / "b", stays, names) == base.fingerprint
    stays.loc[3, "in_hospital_mortality"] = np.nan
    assert backend.preparing.fingerprint(tmp_path / "b", stays, names) != base.fingerprint


def test_dataset_json_is_readable_and_the_summary_repeats_it(tmp_path: Path) -> None:
    info = build(Physionet2012(write_challenge(tmp_path / "src")), tmp_path / "out", seed=0)
    text = (tmp_path / "out" / "dataset.json").read_text()
    assert orjson.loads(text)["read"] == info.read
    assert len(text.splitlines()) > 50
    rows = dict(summary_rows(info))
    assert rows["stays"] == "20 (train 14, valid 3, test 3)"
    assert rows["dropped: not recorded (-1)"] == "1: Height 20"
    assert rows["in_hospital_mortality"] == "20 known, 5 positive, 0 missing"


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    source = write_challenge(tmp_path / "[src]")
    write_set(source, {99: record(99, "00:01,pH [/venous],7.3")}, name="set-[b]")
    done = run("physionet2012", source, tmp_path / "[out]")
    assert done.returncode == 0, done.stderr
    assert "pH [/venous]" in done.stdout
    assert "reading set-[b].tar.gz: 100%" in done.stdout
    assert f"prepared {tmp_path / '[out]'} (" in done.stdout.splitlines()[-1]


def test_progress_in_a_file_is_a_few_lines_and_on_a_terminal_a_bar() -> None:
    for terminal in (False, True):
        output = StringIO()
        with progress_on(Console(file=output, force_terminal=terminal, width=100)) as progress:
            for step in range(1, 1001):
                progress("reading", step / 1000)
        assert ("━" in output.getvalue()) is terminal
        if not terminal:
            assert output.getvalue() == "reading: 100%\n"
