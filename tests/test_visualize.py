"""`visualize`: four pictures of a checkpoint, and snapshots that the pages read as those of training; clear words for bad input."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from backend import visualize_checkpoint, visualize_figures, visualize_space
from backend.__main__ import main
from backend.visualize_figures import SHEETS
from dashboard.latent.colour import VARIABLE, choices, colouring
from dashboard.latent.data import analysed, sets_of
from shared.latents import read_latents
from shared.layout import RunLayout
from tests.tiny_runs import prepare_cohort, start, stays

__all__ = ["stays"]
KINDS = ("posterior", "latents", "reconstruction", "presence")
"""Besides `observed`, which a run has once for all its snapshots."""


@pytest.fixture(scope="module")
def trained(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return start(stays, tmp_path_factory.mktemp("runs"), max_steps=8)


def final(run: RunLayout) -> Path:
    return next(run.checkpoints.glob("final_*.ckpt"))


def test_a_checkpoint_becomes_pictures_and_snapshots(trained: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    path = final(trained)
    assert main(["visualize", str(path), "--batch-size", "4"]) == 0
    out = trained.plots / path.stem
    assert {picture.name for picture in out.iterdir()} == set(SHEETS)
    for name in SHEETS:
        with Image.open(out / name) as picture:
            assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 100
    for kind in KINDS:
        made, ordinary = trained.analysed(kind, path.stem), trained.snapshots(kind)[-1][1]
        assert pq.read_schema(made).names == pq.read_schema(ordinary).names, kind
        assert pq.read_schema(made).metadata[b"schema_version"] == b"1"
    assert trained.umap("latents", path.stem).exists(), "the page finds the layout done"
    source = next(source for source in analysed(trained) if source.checkpoint == path.stem)
    sets = sets_of(source.latents)
    name = next(key for key in choices(trained, source, "outcome") if key.startswith(VARIABLE))
    assert np.isfinite(colouring(name, sets, trained, source, "outcome", 0).values).mean() > 0.5, (
        "its own stays, not the probe's"
    )
    assert not list(trained.root.rglob("*.tmp"))
    assert "the dashboard's pages show this checkpoint" in capsys.readouterr().out


@pytest.fixture
def evaluated_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither UMAP nor pictures, which take the most time."""
    monkeypatch.setattr(visualize_checkpoint, "laid_out", lambda layout, stem: "too few points for UMAP")
    monkeypatch.setattr(visualize_figures, "write_sheets", lambda seen, out: None)


def test_latents_are_those_of_the_training_probe(trained: RunLayout, evaluated_only: None) -> None:
    """The last snapshot of training and the final checkpoint are of the same weights, and here of the same stays."""
    path = final(trained)
    assert main(["visualize", str(path)]) == 0
    made, ordinary = read_latents(trained.analysed("latents", path.stem)), read_latents(trained.snapshots("latents")[-1][1])
    _, mine, theirs = np.intersect1d(made.row, ordinary.row, return_indices=True)
    assert len(mine) > 50
    np.testing.assert_allclose(made.mu[mine], ordinary.mu[theirs], rtol=2e-3, atol=2e-3)


def test_batches_limit_the_stays(trained: RunLayout, evaluated_only: None) -> None:
    path = final(trained)
    assert main(["visualize", str(path), "--split", "train", "--max_batches", "9", "--batch_size", "4"]) == 0
    latents = read_latents(trained.analysed("latents", path.stem))
    assert len(set(latents.stay)) == 36
    events = pd.read_parquet(trained.analysed("reconstruction", path.stem))
    assert events["stay_id"].nunique() == 36, "every stay is decoded, not only some as in training"


def test_a_checkpoint_without_a_finite_number_has_panels_that_say_so(
    trained: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the ones are that training leaves when its loss stops being finite."""
    loaded = torch.load(final(trained), weights_only=False)
    for weights in loaded["state_dict"].values():
        if weights.is_floating_point():
            weights.fill_(math.nan)
    path = trained.checkpoints / "error_step-000000008.ckpt"
    torch.save(loaded, path)
    said: list[str] = []
    monkeypatch.setattr(visualize_figures, "nothing", lambda axes, words: said.append(words))
    monkeypatch.setattr(visualize_space, "nothing", lambda axes, words: said.append(words))
    assert main(["visualize", str(path), "--batch-size", "4"]) == 0
    assert {picture.name for picture in (trained.plots / path.stem).iterdir()} == set(SHEETS)
    assert said.count(visualize_figures.NOT_FINITE) == 7, said


def test_a_folder_that_cannot_be_written_has_its_own_words(
    trained: RunLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluated_only: None
) -> None:
    run = RunLayout(shutil.copytree(trained.root, tmp_path / "run"))
    file = tmp_path / "file"
    file.touch()
    assert main(["visualize", str(final(run)), "--out", str(file)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    shutil.rmtree(run.analysis)
    run.analysis.touch()
    assert main(["visualize", str(final(run)), "--out", str(tmp_path / "pictures")]) == 2
    said = capsys.readouterr().err
    assert "has to be writable" in said and "choose another --out" not in said


def test_a_loose_checkpoint_has_pictures_and_no_page(
    trained: RunLayout, stays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    evaluated_only: None,
) -> None:  # fmt: skip
    loose = tmp_path / "somewhere" / "mine.ckpt"
    loose.parent.mkdir()
    shutil.copy(final(trained), loose)
    monkeypatch.chdir(tmp_path)
    assert main(["visualize", str(loose), "--data_dir", str(stays)]) == 0
    assert not list(tmp_path.rglob("*.parquet"))
    assert "in ." in (said := capsys.readouterr().out) and "not in a run folder" in said


def test_bad_input_names_what_and_what_next(trained: RunLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(final(trained))
    (tmp_path / "no.ckpt").write_bytes(b"no checkpoint")
    other = str(prepare_cohort(tmp_path / "other", patients=40, seed=3))
    for words, message in (
        ([path, "--max_batches", "0"], "--max_batches 0: at least 1"),
        ([str(tmp_path / "none.ckpt")], "none.ckpt"),
        ([str(tmp_path / "no.ckpt")], "no.ckpt"),
        ([path, "--data_dir", str(tmp_path)], "name one of them"),
        ([path, "--data_dir", other], "fingerprint is"),
        ([str(trained.run_json)], "run.json"),
    ):
        assert main(["visualize", *words]) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("error: ") and message in said and "Traceback" not in said, said


def test_data_that_have_moved_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluated_only: None
) -> None:  # fmt: skip
    data = prepare_cohort(tmp_path / "data", patients=40)
    run = start(data, tmp_path / "runs", max_steps=3)
    moved = data.rename(tmp_path / "moved")
    assert main(["visualize", str(final(run))]) == 2
    assert "say where it is with --data_dir" in capsys.readouterr().err
    assert main(["visualize", str(final(run)), "--data_dir", str(moved)]) == 0
