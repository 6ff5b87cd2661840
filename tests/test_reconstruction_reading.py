"""Reading snapshots: of this release and of older ones, damaged, replaced and foreign; never more than one error, always named."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.snapshots import write_frame
from dashboard.reconstruction.events import newest, read_events, read_history, read_outcomes, read_presence, sources
from shared.errors import InputError
from shared.layout import RunLayout
from tests.reconstruction_factory import events, latents, presence, write, write_step


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    layout = RunLayout(tmp_path / "run")
    for step, left in ((100, 0.9), (200, 0.6), (300, 0.3)):
        write_step(layout, step, events(left=left, claimed=left))
    return layout


def test_snapshots_of_steps_and_checkpoints_are_found(run):
    write(run.analysed("reconstruction", "final_step-000000300"), events())
    found = sources(run)
    assert [source.key for source in found] == ["step-100", "step-200", "step-300", "checkpoint-final_step-000000300"]
    last = newest(found)
    assert last is not None and last.step == 300, "a checkpoint looked into later is not the newest state of the run"
    assert newest(found[-1:]) == found[-1] and newest([]) is None


def test_what_was_written_is_what_is_read(run):
    source = sources(run)[-1]
    read, frame = read_events(source.path), events(left=0.3, claimed=0.3)
    assert (
        read.frame["observed"].tolist() == frame["observed"].tolist()
        and read.frame["hour"].tolist() == (frame["minute"] / 60).tolist()
    )
    assert read.has_std and read.unit("Temp") == "°C" and read.unit("pH") == "unit unknown"
    assert read_outcomes(source.latents) == {row.stay_id: row.outcome for row in latents(frame).dropna().itertuples()}
    found, made = read_presence(source.presence), presence(frame)
    assert found is not None and list(found.names) == made.attrs["variables"]
    assert np.array_equal(found.probability, np.stack(made["probability"])) and np.array_equal(
        found.occurred, np.stack(made["occurred"])
    )


def test_a_run_without_presence_units_or_std_is_read_all_the_same(tmp_path):
    frame = events(claimed=None)
    frame.attrs.clear()
    write_step(RunLayout(tmp_path), 100, frame, with_presence=False)
    (source,) = sources(RunLayout(tmp_path))
    read = read_events(source.path)
    assert not read.has_std and read.unit("HR") == "unit unknown" and read_presence(source.presence) is None
    assert read_outcomes(tmp_path / "none.parquet") == {}


def test_snapshots_of_a_foreign_vae_are_read(tmp_path):
    """Numbers for patients, no time, an infinite error where a value never varied."""
    frame = pd.DataFrame(
        {"stay_id": [3, 3], "minute": [0.0, 0.0], "variable": pd.Categorical(["value 1", "value 2"]), "observed": [1.0, 2.0],
         "reconstructed": [1.5, 2.5], "std": [np.nan, np.nan], "error": [0.5, 0.5], "error_in_std": [0.5, np.inf]}
    )  # fmt: skip
    read = read_events(write(tmp_path / "step-1.parquet", frame)).frame
    assert read["stay"].tolist() == ["3", "3"] and read["error_in_std"].isna().tolist() == [False, True]


def test_history_follows_the_steps_and_names_what_cannot_be_read(run):
    run.reconstruction(200).write_bytes(b"PAR1 torn")
    history = read_history(sources(run))
    assert history.steps.tolist() == [100, 300]
    assert [name.partition(":")[0] for name in history.problems] == ["reconstruction/step-000000200.parquet"]
    first, last = history.of("HR", "rmse_std")
    assert first == pytest.approx(0.9, rel=0.2) and last == pytest.approx(0.3, rel=0.2)
    assert np.isnan(history.of("unheard of", "rmse")).all()


def test_a_replaced_file_is_read_anew(run):
    before = read_events(run.reconstruction(300)).frame["error"].abs().mean()
    write(run.reconstruction(300), events(left=3.0, sets=21))
    assert read_events(run.reconstruction(300)).frame["error"].abs().mean() > 5 * before


def damaged(kind: str, path: Path) -> None:
    """Spoil a snapshot in one way."""
    frame = events(2)
    if kind == "torn":
        write(path, frame)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "column":
        write_frame(frame.drop(columns="std"), path)
    elif kind == "type":
        write_frame(frame.assign(std="high"), path)
    elif kind == "version":
        frame.to_parquet(path)
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("torn", "parquet"), ("empty", "parquet"), ("column", "'std' is missing"), ("type", "no readable parquet"),
     ("version", "schema_version is missing"), ("gone", "No such file"), ("folder", "step-000000001.parquet")],
)  # fmt: skip
def test_one_clear_error_names_the_file(tmp_path, kind, words):
    path = tmp_path / "step-000000001.parquet"
    damaged(kind, path)
    with pytest.raises(InputError, match=r"step-000000001\.parquet") as raised:
        read_events(path)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(["events", "presence"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_flipped_bytes_are_read_or_refused_and_nothing_else(tmp_path, flips, kind):
    whole = events(2, 3, claimed=0.5)
    path = write(tmp_path / "step-1.parquet", whole if kind == "events" else presence(whole))
    data = bytearray(path.read_bytes())
    for at, value in flips:
        data[-1 - at % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        (read_events if kind == "events" else read_presence)(path)


def test_presence_whose_lists_have_another_length_is_refused(tmp_path):
    frame = presence(events(2))
    frame.attrs["variables"] = frame.attrs["variables"][:-1]
    with pytest.raises(InputError, match="not of the length"):
        read_presence(write(tmp_path / "step-1.parquet", frame))
