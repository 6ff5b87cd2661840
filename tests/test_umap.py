"""UMAP of a run: exact neighbours, layouts that keep them, frames that stay where they were, results that are used only for their input."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

from backend.__main__ import main
from backend.umap_layout import kept_neighbours, neighbours, principal, started_from, turned_onto
from backend.umap_run import sources_of
from shared.embedding import LEAST_POINTS, read_embedding, write_embedding
from shared.errors import InputError
from shared.latents import read_latents
from shared.layout import RunLayout
from tests.latent_runs import latent_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """A run of three snapshots, laid out by the command in a process of its own."""
    layout = latent_run(tmp_path_factory.mktemp("runs"), "run", width=8)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "backend", "umap", str(layout.root)], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    return layout, done


def test_neighbours_are_the_exact_ones():
    X = np.random.default_rng(0).normal(size=(1300, 7)).astype(np.float32)
    X[5] = X[6]
    found = neighbours(X, 6)
    distance = np.linalg.norm(X[:, None].astype(float) - X[None], axis=2)
    assert (found.index[:, 0] == np.arange(len(X))).all() and (found.distance[:, 0] == 0).all()
    assert found.distance == pytest.approx(np.sort(distance, axis=1)[:, :6], abs=2e-3)


def test_an_offset_that_all_points_share_changes_no_neighbour():
    X = np.random.default_rng(0).normal(scale=0.1, size=(1300, 7)).astype(np.float32)
    there = X + np.float32(1000)
    X = (there - np.float32(1000)).astype(np.float32)  # what rounding left of them
    found, expected = neighbours(there, 6), neighbours(X, 6)
    assert found.distance == pytest.approx(expected.distance, abs=1e-4)
    assert (found.index == expected.index).mean() > 0.999


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 6.3), st.booleans(), st.floats(-50, 50), st.integers(0, 10))
def test_a_turned_layout_is_turned_back(angle, mirrored, moved, unknown):
    """Rotation, reflection and shift are undone, also when some points are not shared."""
    other = np.random.default_rng(1).normal(size=(40, 2)) * [3, 1]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1, -1 if mirrored else 1])
    shared = (np.arange(unknown, 40),) * 2
    assert turned_onto(other @ turn + moved, other, shared) == pytest.approx(other, abs=1e-3)


def test_with_two_points_in_common_nothing_is_turned():
    xy = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    assert turned_onto(xy, xy[::-1], (np.arange(2),) * 2) is xy


def test_new_points_start_beside_their_nearest_known_neighbour():
    X = (
        np.concatenate([np.zeros((5, 3)), np.full((5, 3), 9.0)]).astype(np.float32)
        + np.arange(10, dtype=np.float32)[:, None] / 100
    )
    known = np.array([0, 1, 2, 3, 5, 6, 7, 8])
    other = np.where(known[:, None] < 5, -4.0, 4.0) * np.ones((1, 2))
    start = started_from(other, (known, np.arange(len(known))), neighbours(X, 4))
    assert start[4] == pytest.approx([-4, -4], abs=0.1) and start[9] == pytest.approx([4, 4], abs=0.1)


def test_equal_points_get_a_start_in_which_they_differ():
    start = principal(np.ones((50, 4), np.float32))
    assert np.isfinite(start).all() and len(np.unique(start, axis=0)) == 50


@pytest.mark.slow
def test_the_command_lays_out_without_torch(laid_out):
    layout, done = laid_out
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "umap.umap_" in loaded and not {"torch", "lightning", "streamlit"} & loaded
    assert "3 frames, 3 of them new" in done.stdout
    assert [path.name for path in layout.analysis.iterdir() if path.is_file()] == ["umap-latents.parquet"]
    assert not list(layout.progress(layout.umap("latents")).parent.iterdir()), "the progress file is cleared away"


@pytest.mark.slow
def test_layouts_keep_neighbours_and_groups(laid_out):
    layout, _ = laid_out
    frames = read_embedding(layout.umap("latents")).frames
    assert list(frames) == [100, 200, 300] and frames[300].started_from is None
    assert frames[200].started_from == 300 and frames[100].started_from == 200
    sets = read_latents(layout.latents(300))
    frame = frames[300]
    assert frame.rows.tolist() == sets.row.tolist()
    assert frame.kept == pytest.approx(kept_neighbours(neighbours(sets.mu), frame.xy))
    assert frame.kept > 0.3
    group = np.array([int(stay[1:]) % 4 for stay in sets.stay])
    near = neighbours(frame.xy, 5).index[:, 1:]
    assert (group[near] == group[:, None]).mean() > 0.9


@pytest.mark.slow
def test_frames_stay_where_they_were(laid_out):
    """Points move less from frame to frame than half of what they do when each is laid out alone and turned."""
    layout, _ = laid_out
    frames = read_embedding(layout.umap("latents")).frames

    def moved(one, other):
        return np.sqrt(((one - other) ** 2).sum(1).mean() / ((other - other.mean(0)) ** 2).sum(1).mean())

    shuffled = np.random.default_rng(0).permutation(frames[200].xy)
    assert moved(frames[200].xy, frames[300].xy) < 0.6 * moved(shuffled, frames[300].xy)


@pytest.mark.slow
def test_frames_are_kept_as_long_as_their_input_is(laid_out, tmp_path, capsys):
    layout = RunLayout(shutil.copytree(laid_out[0].root, tmp_path / "run"))
    before = read_embedding(layout.umap("latents")).frames
    layout.latents(200).write_bytes(layout.latents(100).read_bytes())
    layout.latents(100).unlink()
    assert main(["umap", str(layout.root)]) == 0
    assert "2 frames, 1 of them new" in capsys.readouterr().out
    embedding = read_embedding(layout.umap("latents"))
    assert list(embedding.frames) == [200, 300]
    assert embedding.frames[300].xy.tolist() == before[300].xy.tolist()
    written = layout.umap("latents").stat().st_mtime_ns
    assert main(["umap", str(layout.root)]) == 0 and layout.umap("latents").stat().st_mtime_ns == written, "nothing to do"
    assert embedding.valid(300, before[300].input) is not None and embedding.valid(200, before[200].input) is None
    layout.umap("latents").write_bytes(b"torn")
    assert main(["umap", str(layout.root)]) == 0
    assert read_embedding(layout.umap("latents")).frames[300].xy == pytest.approx(before[300].xy), (
        "the same input, the same layout"
    )


@pytest.mark.slow
def test_snapshots_that_cannot_be_read_are_named_and_left_out(laid_out, tmp_path, capsys, monkeypatch):
    layout = RunLayout(shutil.copytree(laid_out[0].root, tmp_path / "run"))
    listed = sources_of(layout, None)
    monkeypatch.setattr("backend.umap_run.sources_of", lambda layout, checkpoint: listed)
    layout.latents(100).unlink()  # thinned out after it was listed
    layout.latents(200).write_bytes(b"torn")
    for step in ("100", "200"):
        assert main(["umap", str(layout.root), "--step", step]) == 2
        assert str(layout.latents(int(step))) in capsys.readouterr().err
    assert main(["umap", str(layout.root)]) == 0
    said = capsys.readouterr()
    assert f"left out: {layout.latents(100)}: cannot be read (No such file" in said.err and "writable" not in said.err
    assert f"left out: {layout.latents(200)}: cannot be read" in said.err
    assert "1 frames, 0 of them new" in said.out and list(read_embedding(layout.umap("latents")).frames) == [300]
    layout.latents(300).write_bytes(b"torn")
    assert main(["umap", str(layout.root)]) == 2
    assert "error:" in (error := capsys.readouterr().err) and "cannot be read" in error


@pytest.mark.slow
def test_states_and_checkpoints(laid_out, tmp_path, capsys):
    layout = RunLayout(shutil.copytree(laid_out[0].root, tmp_path / "run"))
    assert main(["umap", str(layout.root), "--of", "states", "--step", "300"]) == 0
    states = read_embedding(layout.umap("states")).frames[300]
    assert len(states.rows) == np.isfinite(read_latents(layout.latents(300)).state[:, 0]).sum()
    layout.analysed("latents", "best_1").write_bytes(layout.latents(300).read_bytes())
    assert main(["umap", str(layout.root), "--checkpoint", "best_1"]) == 0
    assert list(read_embedding(layout.umap("latents", "best_1")).frames) == [-1]
    assert main(["umap", str(layout.root), "--checkpoint", "best_2"]) == 2
    assert "made so far: best_1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no such run folder"),
        (["bare"], "no latents snapshot yet"),
        (["small"], f"at least {LEAST_POINTS} are needed"),
        (["small", "--of", "states"], "hold no states"),
        (["small", "--step", "7"], "there are 1"),
        (["small", "--checkpoint", "../x"], "--checkpoint ../x"),
    ],
)
def test_bad_input_is_said_in_one_line(tmp_path, capsys, words, said):
    from tests.run_factory import make_run

    make_run(tmp_path, "bare", steps=10)
    latent_run(tmp_path, "small", steps=(1,), stays=3)
    assert main(["umap", str(tmp_path / words[0]), *words[1:]]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error


def test_a_run_that_cannot_be_written_is_named(tmp_path, capsys):
    layout = latent_run(tmp_path, "run", steps=(1,))
    layout.analysis.write_text("a file in its place")
    assert main(["umap", str(layout.root)]) == 2
    assert "analysis" in (error := capsys.readouterr().err) and "has to be writable" in error and error.count("\n") == 1


@pytest.mark.slow
def test_a_kill_leaves_nothing_half_written(tmp_path):
    layout = latent_run(tmp_path, "run", steps=(1,), stays=1500, dims=16)
    progress = layout.progress(layout.umap("latents"))
    progress.parent.mkdir(parents=True)
    begun = threading.Event()

    class Seen(FileSystemEventHandler):
        def on_any_event(self, event):
            if str(progress) in (event.src_path, event.dest_path):
                begun.set()

    observer = Observer()
    observer.schedule(Seen(), str(progress.parent))
    observer.start()
    process = subprocess.Popen([sys.executable, "-m", "backend", "umap", str(layout.root)], cwd=ROOT, stderr=subprocess.PIPE)
    try:
        assert begun.wait(60), "no progress within a minute"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        observer.stop()
        observer.join()
    assert not [path for path in layout.analysis.rglob("*") if path.is_file()]


def test_unreadable_embeddings_are_named(tmp_path):
    path = tmp_path / "umap-latents.parquet"
    assert read_embedding(path) is None
    path.write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="delete it"):
        read_embedding(path)
    write_embedding(path, read_frames(), "umap-learn 0")
    assert read_embedding(path).frames[5].xy.shape == (3, 2)
    assert not list(tmp_path.glob("*.tmp"))


def read_frames():
    from shared.embedding import Frame

    return {5: Frame("i", np.arange(3), np.zeros((3, 2), np.float32), 0.5)}
