"""Checkpoint files by themselves: what is kept, what is refused, and the weights that --init_from takes."""

from pathlib import Path

import pytest
import torch

from backend.build import load_weights, module_from_checkpoint
from backend.checkpoints import (
    AtomicCheckpointIO,
    load_checkpoint,
    read_sidecars,
    score_name,
    score_of,
    second_name,
    sha256_of,
)
from backend.datasource import open_data
from backend.earlier import of_earlier
from backend.store import PreparedDataset
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from tests.tiny_runs import prepare_cohort, start, stays

__all__ = ["stays"]


@pytest.fixture(scope="module")
def run(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return start(stays, tmp_path_factory.mktemp("checkpoints"), max_steps=2)


def test_any_auroc_beats_none_then_auroc_then_the_bound():
    scores = [
        {"auroc": None, "elbo": -9.0},
        {"auroc": 0.4, "elbo": -99.0},
        {"auroc": None, "elbo": -5.0},
        {"auroc": 0.6, "elbo": None},
        {},
    ]
    assert sorted(scores, key=score_of) == [{}, scores[0], scores[2], scores[1], scores[3]]
    assert [score_name(scores[i]) for i in (0, 1)] == ["elbo-9.000", "auroc-0.4000"]


def test_a_description_that_fails_leaves_the_old_checkpoint(tmp_path):
    def refuse(path: Path) -> None:
        raise OSError("no room for the sidecar")

    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, target)
    with pytest.raises(OSError, match="no room"):
        AtomicCheckpointIO().save_checkpoint({"a": 2}, target, storage_options=refuse)
    assert torch.load(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_sidecars_tell_what_their_checkpoint_holds(run):
    found = dict(read_sidecars(run.checkpoints))
    assert len(found) == 3 and {side.kind for side in found.values()} == {"last", "best", "final"}
    for path, side in found.items():
        loaded = load_checkpoint(path)
        assert side.step == loaded["global_step"] and side.sha256 == sha256_of(path)
        assert loaded["seqsetvae"]["epoch"] == side.epoch


def test_a_checkpoint_without_a_readable_sidecar_is_left_out_aloud(run, tmp_path, capsys):
    (tmp_path / "best_x.ckpt").write_bytes(b"")
    (tmp_path / "best_x.json").write_text("{")
    assert read_sidecars(tmp_path) == []
    assert "best_x.ckpt" in capsys.readouterr().err


def test_a_module_comes_back_from_its_checkpoint(run, stays):
    path = run.checkpoints / "last.ckpt"
    data = PreparedDataset.open(stays)
    one, other = module_from_checkpoint(path, data), module_from_checkpoint(path, data)
    assert one.trained_steps == 2
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_another_vocabulary_is_refused(run, tmp_path):
    data = PreparedDataset.open(prepare_cohort(tmp_path / "other", 20))
    data.info.variables.pop()
    with pytest.raises(InputError, match="does not fit data set"):
        module_from_checkpoint(run.checkpoints / "last.ckpt", data)


def test_weights_that_fit_are_taken_and_the_rest_is_named(run, stays):
    from backend.build import build_module

    path = run.checkpoints / "last.ckpt"
    sizes = load_checkpoint(path)["seqsetvae"]["config"]
    data = PreparedDataset.open(stays)
    config = build_config({"levels": 2}, base=build_config(sizes))
    fresh = load_weights(build_module(config, data, 1), path)
    assert {name.split(".")[2] for name in fresh if "encoder" in name} <= {"blocks", "pools", "posteriors", "priors"}
    assert any("blocks.1" in name for name in fresh) and not any("blocks.0" in name for name in fresh if "encoder" in name)
    with pytest.raises(InputError, match="the encoder's weights do not fit"):
        load_weights(build_module(build_config({"width": 40}, base=build_config(sizes)), data, 1), path)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_data_without_a_split_is_refused(tmp_path, split):
    import pandas as pd

    folder = prepare_cohort(tmp_path / "data", 20)
    table = pd.read_parquet(folder / "stays.parquet")
    table.loc[table["split"] == split, "split"] = "test"
    table.to_parquet(folder / "stays.parquet")
    with pytest.raises(InputError, match=f"the '{split}' split holds no stays"):
        open_data(build_config({"data_dir": str(folder)}))


def test_the_newest_three_of_last_stay_under_names_of_their_own(stays, tmp_path):
    run = start(stays, tmp_path, max_steps=14, disable_metrics_monitoring=True)
    earlier = {path.name: side for path, side in read_sidecars(run.checkpoints) if side.kind == "earlier"}
    assert list(earlier) == [f"earlier_step-{step:09d}.ckpt" for step in (6, 9, 12)]
    for name, side in earlier.items():
        path = run.checkpoints / name
        assert (side.file, side.sha256, side.bytes) == (name, sha256_of(path), path.stat().st_size)
        assert load_checkpoint(path)["global_step"] == side.step


def test_earlier_checkpoints_are_copies_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*paths: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    second_name(tmp_path / "last.ckpt", tmp_path / "earlier.ckpt")
    assert (tmp_path / "earlier.ckpt").read_bytes() == b"weights" and not list(tmp_path.glob("*.tmp"))


def test_a_configuration_from_before_small_sets_were_spared_still_means_what_it_meant() -> None:
    saved = build_config({"set_attention": "induced"}).model_dump()
    assert of_earlier(saved) == saved and not build_config(saved).model.induce_small_sets
    del saved["model"]["induce_small_sets"]
    assert build_config(of_earlier(saved)).model.induce_small_sets
    assert of_earlier({}) == {}
