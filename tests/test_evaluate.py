"""`python -m backend evaluate`: JSON alone on stdout, the same in a file, and named errors."""

import json

import pytest

from backend.__main__ import main
from backend.store import PreparedDataset
from tests.tiny_runs import evaluations, start, stays

__all__ = ["stays"]


def test_evaluate_prints_json_alone_and_writes_it(stays, tmp_path, capsys):
    run = start(stays, tmp_path)
    final = next(run.checkpoints.glob("final_*.ckpt"))
    capsys.readouterr()
    assert main(["evaluate", str(final), "--data", str(stays), "--split", "valid"]) == 0
    report = json.loads(capsys.readouterr().out)
    written = final.with_name(f"{final.stem}.valid.eval.json")
    assert json.loads(written.read_text()) == report
    whole = next(row for row in evaluations(run, "validation") if row.get("full"))
    for name, value in report["scores"].items():
        assert value == pytest.approx(whole[name], rel=1e-4), name
    assert report["same_data_as_training"] and report["simulated"] and report["step"] == 17
    assert main(["evaluate", str(final), "--split", "test", "--output", str(tmp_path / "test.json")]) == 0
    assert json.loads((tmp_path / "test.json").read_text())["scores"]["stays"] == len(
        PreparedDataset.open(stays).split_indices("test")
    )


def test_evaluate_refuses_what_does_not_fit(stays, tmp_path, capsys):
    run = start(stays, tmp_path, max_steps=1)
    final = next(run.checkpoints.glob("final_*.ckpt"))
    (tmp_path / "no.ckpt").write_text("x")
    for words, said in (
        ([str(tmp_path / "missing.ckpt")], "no such checkpoint"),
        ([str(final.with_name("lst.ckpt"))], f"no such checkpoint; did you mean {final.with_name('last.ckpt')}?\n"),
        ([str(tmp_path / run.root.name[:-16] / "checkpoints" / final.name)], f"no such checkpoint; did you mean {final}?\n"),
        ([str(tmp_path / "no.ckpt")], "not a"),
        ([str(final), "--data", str(tmp_path)], "dataset.json"),
        ([str(final), "--batch_size", "0"], "--batch_size"),
        ([str(final), "--output", str(tmp_path / "no" / "where.json")], "cannot be written"),
    ):
        assert main(["evaluate", *words]) == 2, words
        assert said in capsys.readouterr().err, words
