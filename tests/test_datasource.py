"""Training and evaluating straight from the older layout, whatever else lies in its cache."""

import json
from pathlib import Path

import pytest

from backend import prepare as prepare_module
from backend.__main__ import main
from backend.datasource import open_data
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from tests.sources import events_frame, write_ehr
from tests.tiny_runs import TINY, info, newest

STAY = events_frame([1, 1, 60, 90], ["HR", "Temp", "HR", "HR"], [80, 37, 90, 70])
SPLITS = {"train": range(100, 120), "valid": range(200, 208), "test": range(300, 308)}


def older(folder: Path, shift: float = 0.0) -> Path:
    stays = {s: {str(i): STAY.assign(value=STAY["value"] + i % 7 + shift) for i in ids} for s, ids in SPLITS.items()}
    return write_ehr(folder, stays, label_table())


def label_table(turn: int = 0) -> str:
    rows = "".join(f"{i},{(i + turn) % 2}\n" for ids in SPLITS.values() for i in ids)
    return f"ts_id,in_hospital_mortality\n{rows}"


def options(source: Path, runs: Path, **more: object) -> TrainConfig:
    return build_config({"data_dir": str(source), "output_dir": str(runs), **more})


def test_train_and_evaluate_on_the_older_layout(tmp_path, capsys, monkeypatch):
    source = older(tmp_path / "desk" / "data")
    (source / "oc.csv").rename(tmp_path / "labels.csv")
    (tmp_path / "stats.csv").write_text("variable,mean,std,count\nHR,80,10,60\n")
    paths = ["--params_map_path", str(tmp_path / "stats.csv"), "--label_path", str(tmp_path / "labels.csv")]
    words = [word for name, value in {**TINY, "data_dir": source, "output_dir": tmp_path / "runs", "max_steps": 2}.items()
             for word in (f"--{name}", str(value))]  # fmt: skip
    assert main(["train", *words, *paths]) == 0
    run = newest(tmp_path / "runs")
    assert info(run).dataset.stays == {"train": 20, "valid": 8, "test": 8}
    final = next(run.checkpoints.glob("final_*.ckpt"))
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "runs" / ".prepared").iterdir():
        path.rename(tmp_path / "moved")  # evaluate makes it again, and still prints JSON alone
    for more in ([], ["--split", "test"]):
        capsys.readouterr()
        assert main(["evaluate", str(final), *more]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["same_data_as_training"] and report["scores"]["labelled"] == 8 and report["schema_version"] == 1
    assert not (tmp_path / ".prepared").exists()


def test_two_sources_of_one_name_are_two_data_sets(tmp_path):
    one, other = older(tmp_path / "a" / "data"), older(tmp_path / "b" / "data", shift=5.0)
    first, second = (open_data(options(source, tmp_path / "runs")).info.fingerprint for source in (one, other))
    assert first != second
    assert open_data(options(one, tmp_path / "runs")).info.fingerprint == first


def test_a_source_that_changed_is_prepared_again(tmp_path):
    source, runs = older(tmp_path / "data"), tmp_path / "runs"
    first = open_data(options(source, runs)).info
    file = next((source / "patient_ehr" / "train").glob("*.parquet"))
    STAY.assign(value=STAY["value"] * 1.5).to_parquet(file, index=False)
    changed = open_data(options(source, runs)).info
    (tmp_path / "turned.csv").write_text(label_table(turn=1))
    turned = open_data(options(source, runs, label_path=str(tmp_path / "turned.csv"))).info
    assert len({first.fingerprint, changed.fingerprint, turned.fingerprint}) == 3


def test_the_slower_of_two_preparations_opens_what_the_faster_made(tmp_path, monkeypatch):
    source, original, made = older(tmp_path / "data"), prepare_module.prepare, []

    def beaten(*args, **kwargs):
        made.append(original(*args, **kwargs))
        return original(*args, **kwargs)

    monkeypatch.setattr(prepare_module, "prepare", beaten)
    assert open_data(options(source, tmp_path / "runs")).info.fingerprint == made[0].fingerprint


def test_a_bad_source_is_still_named(tmp_path):
    source = older(tmp_path / "data")
    (source / "oc.csv").unlink()
    with pytest.raises(InputError, match=r"oc\.csv: no such file"):
        open_data(options(source, tmp_path / "runs"))


def test_a_folder_of_prepared_data_sets_names_them(tmp_path):
    (tmp_path / "prepared" / "p12").mkdir(parents=True)
    (tmp_path / "prepared" / "p12" / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match=r"name one of them: .*prepared/p12"):
        open_data(options(tmp_path / "prepared", tmp_path / "runs"))
