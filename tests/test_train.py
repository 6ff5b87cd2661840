"""The command line of `train` and what a whole run does, beyond resuming (test_resume.py) and watching (test_monitor.py)."""

import json
import os
import pty
import re
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backend.__main__ import main
from shared.config import TrainConfig
from shared.configuring import build_config, group_of_option
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health, read_status
from tests.starting import Started, with_code
from tests.tiny_runs import TINY, evaluations, events, info, metrics, newest, prepare_cohort, start, stays

__all__ = ["stays"]
OLDER = """--batch_size 4 --num_workers 0 --pin_memory --gradient_accumulation_steps 2 --max_sequence_length 1000 --precision 32
--fast_detection --disable_metrics_monitoring --no-compile_model --use_dynamic_padding --devices 1 --max_epochs 1 --verbose"""


def tiny_words(data: Path, out: Path, **options: object) -> list[str]:
    pairs = {**TINY, "data_dir": data, "output_dir": out, **options}
    return ["train", *(word for name, value in pairs.items() for word in (f"--{name}", str(value)))]


@pytest.mark.parametrize("dash", ["_", "-"])
def test_every_older_option_is_accepted_with_dash_or_underscore(stays, tmp_path, dash):
    words = [re.sub("_", dash, word) if word.startswith("--") else word for word in OLDER.split()]
    paths = [f"--log{dash}dir", str(tmp_path / "log"), f"--params{dash}map{dash}path", "x", f"--label{dash}path", "y"]
    assert main([*tiny_words(stays, tmp_path, max_steps=1), *words, *paths]) == 0
    config = info(newest(tmp_path)).config
    assert config["monitor"]["disable_metrics_monitoring"] and config["monitor"]["fast_detection"]
    assert config["data"]["pin_memory"] is True and config["trainer"]["precision"] == "32"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--learning-rte", "1"], "unknown option '--learning_rte'; did you mean '--learning_rate'?"),
        (["--xyzzy"], "unknown option '--xyzzy'; see `python -m backend train --help`"),
        (["stray"], "unexpected 'stray'"),
        (["--batch_size", "0"], "--batch_size: Input should be greater than or equal to 1, got '0'"),
        (["--batch_size", "four"], "--batch_size: Input should be a valid integer, got 'four'\n"),
        (["--remedy", "beta_cat"], "--remedy: no remedy 'beta_cat'; did you mean 'beta_cut'?\n"),
        (["--decoder", "magic"], "--decoder: Input should be 'likelihood' or 'chamfer'"),
        (["--learning_rate", "inf"], "--learning_rate"),
        (["--precision", "16-mixed", "--accelerator", "cpu"], "needs a GPU and this run is on the CPU; use --precision 32"),
        (["--precision", "bf16-mixed", "--accelerator", "cpu"], "use --precision 32"),
        (["--data_dir", "nowhere"], "nowhere: not a prepared data set"),
        (["--config", "nowhere.toml"], "nowhere.toml: no such configuration file"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere: no such checkpoint or run folder"),
        (["--stage", "pretrain", "--early_stopping_patience", "3"], "trainer.early_stopping_patience: pretraining has no outcome"),
    ],
)  # fmt: skip
def test_bad_options_are_named(capsys, words, said):
    assert main(["train", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.startswith("error: ") and "Traceback" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "death"], "data.label: 'death' is not an outcome"),
        (["--init_from", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--run_name", "../up"], "output.run_name"),
    ],
)
def test_what_does_not_fit_the_data_is_named_before_anything_is_written(stays, tmp_path, capsys, words, said):
    assert main([*tiny_words(stays, tmp_path / "runs"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else True


@pytest.mark.parametrize(("word", "hint"), [("trian", "did you mean 'train'?"), ("xyz", "see `python -m backend --help`")])
def test_a_mistyped_command_is_named_with_its_nearest(capsys, word, hint):
    assert main([word, "--data_dir", "x"]) == 2
    assert capsys.readouterr().err == f"error: unknown command {word!r}; {hint}\n"


def test_it_says_what_it_is_about_to_do(stays, tmp_path, capsys):
    start(stays, tmp_path, max_steps=3, batch_events=1500)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "batches an epoch" in line]
    assert re.fullmatch(r"42 stays in \d+ batches an epoch; 3 steps in all, a validation every \d+", said), said


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    from backend.training import check_devices

    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match=r"trainer.devices: 4 asked for, and this machine has 1 GPU"):
        check_devices(build_config({"devices": 4}), "gpu")
    check_devices(build_config({"devices": 4}), "cpu")


def test_help_is_grouped_and_complete(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{option} " in text or f"--{option}," in text for option in group_of_option())
    assert all(f"\n{group}: " in text for group in TrainConfig.model_fields)
    assert len(text.split("options:")[0].splitlines()) < 12, "the usage does not repeat every option"


def test_config_files_and_what_overrides_what(stays, tmp_path):
    toml = tmp_path / "options.toml"
    toml.write_text("max_steps = 2\nseed = 4\n[optim]\nlearning_rate = 0.002\n")
    flat = {name: value for name, value in TINY.items() if name not in ("learning_rate", "max_steps")}
    (tmp_path / "base.json").write_text(json.dumps({**flat, "data_dir": str(stays), "output_dir": str(tmp_path / "a")}))
    assert main(["train", "--config", str(tmp_path / "base.json"), "--max_steps", "1"]) == 0
    first = newest(tmp_path / "a")
    assert len(metrics(first)) == 1
    words = [
        "--data_dir",
        str(stays),
        "--output_dir",
        str(tmp_path / "b"),
        "--accelerator",
        "cpu",
        "--seed",
        "5",
        "--width",
        "16",
    ]
    assert main(["train", "--config", str(toml), *words]) == 0
    config = info(newest(tmp_path / "b")).config
    assert (config["trainer"]["seed"], config["trainer"]["max_steps"], config["optim"]["learning_rate"]) == (5, 2, 0.002)
    assert main(["train", "--config", str(first.run_json), "--output_dir", str(tmp_path / "c")]) == 0
    assert metrics(newest(tmp_path / "c")) == metrics(first), "a run can be made again from its run.json"


def test_resume_may_be_named_in_a_config_file(stays, tmp_path):
    run = start(stays, tmp_path, max_steps=2)
    (tmp_path / "more.toml").write_text(f'resume_from_checkpoint = "{run.root}"\nmax_steps = 4\n')
    assert main(["train", "--config", str(tmp_path / "more.toml")]) == 0
    assert [row["step"] for row in metrics(run)] == [1, 2, 3, 4]


def test_same_seed_same_run_other_seed_other_run(stays, tmp_path):
    runs = [start(stays, tmp_path / str(i), max_steps=3, seed=seed) for i, seed in enumerate((1, 1, 2))]
    assert metrics(runs[0]) == metrics(runs[1]) != metrics(runs[2])


def test_loader_processes_change_nothing(stays, tmp_path):
    runs = [start(stays, tmp_path / str(n), max_steps=3, num_workers=n) for n in (0, 2)]
    assert metrics(runs[0]) == metrics(runs[1])


def test_what_a_run_holds(stays, tmp_path):
    run = start(stays, tmp_path, run_name="mine", max_steps=6, beta_schedule="linear")
    record = info(run)
    assert read_status(run).health is Health.FINISHED
    assert run.root.name.startswith("mine-") and record.device.startswith("CPU") and record.precision == "32-true"
    assert record.dataset.simulated and record.max_steps == 6 and record.parameters > 1000
    console = run.console.read_text()
    assert "training" in console and "validation: auroc" in console
    assert "beta rises to 0.06 of 0.1 in this run, for its warm-up takes 10 steps (--beta_warmup_steps)" in console
    assert re.search(r"^finished .*\nposterior: [A-Z]+, .*; python -m backend diagnose ", console, re.M), "the last word"
    table = metrics(run)
    assert {"loss", "recon", "kl", "kl_loss", "prediction", "elbo", "beta", "lr", "grad_norm", "stays", "epoch"} <= table[
        0
    ].keys()
    assert [row["beta"] for row in table] == pytest.approx([0.01 * step for step in range(6)])
    assert table[0]["lr"] == pytest.approx(3e-3 / 4), "the rate of this step, not of the next"
    assert {row["stays"] for row in table[:5]} == {8}


def test_checkpoints_keep_two_best_with_readable_sidecars(stays, tmp_path):
    run = start(stays, tmp_path)
    best = sorted(run.checkpoints.glob("best_*.json"))
    assert len(best) == 2
    scores = sorted((row["auroc"] for row in evaluations(run, "validation") if "full" not in row), reverse=True)
    kept = [json.loads(path.read_text()) for path in best]
    assert sorted((side["metrics"]["auroc"] for side in kept), reverse=True) == scores[:2]
    for side in kept:
        import hashlib

        content = (run.checkpoints / side["file"]).read_bytes()
        assert (side["bytes"], side["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert side["config"]["data"]["batch_size"] == 4
    assert {event["data"]["kind"] for event in events(run, "checkpoint")} == {"best", "final"}


def relabelled(tmp_path: Path, labels: float | list[float]) -> Path:
    folder = prepare_cohort(tmp_path / "data")
    table = pd.read_parquet(folder / "stays.parquet")
    table["in_hospital_mortality"] = np.resize(np.asarray(labels, np.float32), len(table))
    table.to_parquet(folder / "stays.parquet")
    return folder


def test_a_single_class_has_no_auroc_and_training_goes_on(tmp_path, capsys):
    run = start(relabelled(tmp_path, 0.0), tmp_path / "runs", max_steps=4, positive_weight="balanced")
    row = evaluations(run, "validation")[-1]
    assert (row["auroc"], row["auprc"]) == (None, None)
    assert row["accuracy"] == 1.0 and row["positives"] == 0.0
    assert "auroc undefined (one class)" in capsys.readouterr().out
    assert any("elbo" in path.name for path in run.checkpoints.glob("best_*.ckpt"))


def test_missing_labels_are_left_out_never_zero(tmp_path):
    run = start(relabelled(tmp_path, [np.nan, 1.0, np.nan]), tmp_path / "runs", max_steps=4)
    row = evaluations(run, "validation")[-1]
    assert 0 < row["labelled"] < row["stays"] and row["positives"] == 1.0
    none = start(relabelled(tmp_path / "b", np.nan), tmp_path / "runs-b", max_steps=4)
    row = evaluations(none, "validation")[-1]
    assert (row["labelled"], row["positives"], row["accuracy"], row["prediction"]) == (0, None, None, None)


@pytest.mark.parametrize("options", [{"decoder": "chamfer"}, {"loss_weighting": "dynamic"}, {"set_attention": "induced", "levels": 3},
                                     {"free_bits_mode": "set", "prediction_loss": "focal", "label_smoothing": 0.1}])  # fmt: skip
def test_variants_train(stays, tmp_path, options):
    run = start(stays, tmp_path, max_steps=3, **options)
    assert all(np.isfinite(row["loss"]) for row in metrics(run))


def wait_for_step(out: Path, step: int, child: Started) -> RunLayout:
    limit = time.monotonic() + 120
    while time.monotonic() < limit and child.poll() is None:
        if out.exists() and any(out.iterdir()):
            run = RunLayout(next(out.iterdir()))
            if run.metrics.exists() and run.metrics.read_bytes().count(b"\n") >= step:
                return run
        time.sleep(0.02)
    raise AssertionError(f"never reached step {step}")


@pytest.mark.slow
def test_a_terminal_gets_a_bar_and_ctrl_c_a_clean_stop(stays, tmp_path):
    parent, terminal = pty.openpty()
    child = Started(tiny_words(stays, tmp_path, max_epochs=4000), Path(os.ttyname(terminal)))
    run = wait_for_step(tmp_path, 12, child)
    os.close(terminal)
    child.send(signal.SIGINT)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65_536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert child.wait(60) == 130
    text = shown.decode(errors="replace")
    assert "━" in text and "stays/s" in text and "left" in text
    assert "Ctrl-C: finishing this step" in text and "--resume_from_checkpoint" in text
    assert "Traceback" not in text
    assert info(run).state == "interrupted" and len(list(run.checkpoints.glob("interrupted_*.ckpt"))) == 1
    assert "━" not in run.console.read_text(), "no bar in the log"


@pytest.mark.slow
def test_a_full_disk_warns_once_and_training_goes_on(stays, tmp_path):
    """A limit on the size of files stands for the disk: logs still fit at first, checkpoints never do."""
    limit = 20_000
    words = tiny_words(stays, tmp_path / "runs", max_epochs=12, plot_frequency=20)
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    child = Started(words, tmp_path / "out.txt", script=with_code(full, tmp_path / "full.py"))
    assert child.wait(200) == 1, child.said()[-3000:]
    run = newest(tmp_path / "runs")
    assert child.said().count("lines wait in memory") == 1, child.said()
    assert "Traceback" not in child.said() and len(child.said()) < limit, "its own words still fit"
    assert "training came to its end at step 66, but its final checkpoint could not be written" in child.said()
    assert "finished" not in child.said()
    assert len(metrics(run)) < 66
    assert not list(run.root.rglob("*.tmp"))
    assert [row["step"] for row in metrics(run)] == list(range(1, len(metrics(run)) + 1))


@pytest.mark.slow
def test_output_to_a_file_has_lines_with_rate_and_time_left(stays, tmp_path):
    child = Started(tiny_words(stays, tmp_path / "runs", max_epochs=4000), tmp_path / "out.txt")
    run = wait_for_step(tmp_path / "runs", 5, child)
    limit = time.monotonic() + 60
    while "stays/s" not in child.said() and time.monotonic() < limit:
        time.sleep(0.1)
    child.send(signal.SIGTERM)
    assert child.wait() == 130
    text = child.said()
    assert re.search(r"step \d+ of [\d,]+, epoch \d+\.\d\d, \d+\.\d stays/s, \d+.* left\n", text)
    assert "\x1b[" not in text
    assert info(run).state == "interrupted"
