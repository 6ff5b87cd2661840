"""TensorBoard logs as runs: everything that was logged is there under a name, judged, and looked at by the pages like any run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from backend import tensorboard_run
from backend.__main__ import main
from backend.tensorboard_import import plain, top_name
from backend.tensorboard_places import place_of, places
from backend.tensorboard_tags import read_tags
from dashboard.checkpoints import widgets as checkpoints
from dashboard.jobs.draft import from_checkpoint
from dashboard.latent import words as latent
from dashboard.live.header import header
from dashboard.overview.summaries import Summaries
from dashboard.reconstruction import words as reconstruction
from dashboard.runs.loading import RunLog
from dashboard.widgets import state_banner
from shared.errors import InputError
from shared.layout import RunLayout, iter_runs
from shared.reader import Health, JsonlTail, read_record, read_status
from shared.schema import RunInfo, RunState
from tests.test_tensorboard_logs import scalar, write_events

BEGAN = 1_700_000_000.0


def log_run(folder: Path, steps: int = 200, first: int = 1, kl: float = 0.01) -> Path:
    """A log as a trainer writes it: one step a second, an evaluation every tenth, an epoch of fifty, hyperparameters."""
    with SummaryWriter(folder) as writer:
        for step in range(first, first + steps):
            log_step(writer, step, kl)
    return folder


def log_step(writer: SummaryWriter, step: int, kl: float = 0.01) -> None:
    values = {
        "train/kl": kl,
        "train/total_loss": 5 + 50 / step,
        "train/recon_loss": 4 + 50 / step,
        "epoch": step / 50,
        "my own/x": 7.0,
    }
    if step % 10 == 0:
        values |= {"val/auroc": 0.5 + step / 1000, "val/kl": kl, "val/active_units": 3.0, "val/my_f1": 0.3}
    for tag, value in values.items():
        writer.add_scalar(tag, value, step, walltime=BEGAN + step)


def imported(*words: object) -> int:
    return main(["import", *map(str, words)])


def rows(layout: RunLayout, kind: str | None = None) -> list[dict[str, object]]:
    tail = JsonlTail(layout.metrics if kind is None else layout.evaluations)
    found = [row for row in tail.read() if kind is None or row["kind"] == kind]
    assert tail.problems == []
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    folder = tmp_path_factory.mktemp("imported")
    log_run(folder / "mylog")
    assert imported(folder / "mylog", "--output_dir", folder / "runs", "--kl_mean_over", 1) == 0
    return RunLayout(folder / "runs/mylog")


def test_every_value_is_there_with_its_time(made: RunLayout) -> None:
    steps = rows(made)
    assert [row["step"] for row in steps] == list(range(1, 201))
    assert steps[9] == {
        "v": 1, "step": 10, "time": BEGAN + 10, "kl": pytest.approx(0.01), "loss": 10.0, "recon": 9.0, "epoch": pytest.approx(0.2),
        "my own/x": 7.0,
    }  # fmt: skip
    scores, probes = rows(made, "validation"), rows(made, "probe")
    assert [row["step"] for row in scores] == [row["step"] for row in probes] == list(range(10, 201, 10))
    assert scores[0]["auroc"] == pytest.approx(0.51) and scores[0]["val/my_f1"] == pytest.approx(0.3)
    assert (probes[0]["kl"], probes[0]["active_units"]) == (pytest.approx(0.01), 3.0)
    assert probes[0]["source"] == tensorboard_run.HELD_OUT_SOURCE and "mi_gauss" not in probes[0], "nothing is invented"


def test_the_run_says_where_it_came_from(made: RunLayout) -> None:
    info = read_record(made.run_json, RunInfo)
    assert (info.state, info.max_steps, info.created_at.timestamp()) == (RunState.FINISHED, 200, BEGAN + 1)
    assert info.imported is not None and info.imported.path.endswith("mylog")
    assert info.imported.tags["val_auroc"] == "val/auroc" and info.imported.tags["kl"] == "train/kl"
    assert read_status(made).health is Health.FINISHED


def test_a_collapse_is_judged_at_the_time_it_was_logged(made: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    events = JsonlTail(made.events).read()
    alarms = [e for e in events if e["kind"] == "verdict" and e["data"]["severity"] == "alarm"]
    assert alarms[0]["data"]["verdict"] == "collapse" and 10 <= alarms[0]["step"] < 200
    assert alarms[0]["at"].startswith("2023-11-14T22:1")
    assert [event["step"] for event in events] == sorted(event["step"] for event in events)
    assert main(["diagnose", str(made.root)]) == 4
    said = capsys.readouterr().out
    assert "ALARM: Posterior collapse" in said and "Imported from the TensorBoard log" in said and "Not judged" in said
    assert "healthy\n" not in said


def test_another_sensitivity_is_for_the_log_itself(made: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(made.root), "--sensitivity", "early"]) == 2
    said = capsys.readouterr().err
    words = said.partition("python -m backend ")[2].split()
    assert "judged when it was imported" in said and words[:1] == ["diagnose"] and words[2:] == ["--sensitivity", "early"]
    assert main(words) != 2, "as it says"


def test_the_pages_show_it(made: RunLayout) -> None:
    snapshot = RunLog(made).snapshot(1)
    assert snapshot.verdicts[0].kind == "collapse"
    assert len(snapshot.series("training", "my own/x")[0]) == 200
    assert len(snapshot.series("validation", "auroc")[0]) == 20
    assert "Posterior collapse" in header(snapshot) and "imported from " in header(snapshot)
    (summary,) = Summaries(made.root.parent).all()
    assert summary.best_auroc == pytest.approx(0.7) and summary.step == 200 and summary.duration_s == pytest.approx(199)
    assert main(["curves", str(made.root)]) == 0
    assert (made.plots / "loss_curves.png").exists()


def test_it_cannot_be_resumed_here_and_that_is_said(made: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["resume", str(made.root), "--remedy", "beta_cut"], ["train", "--resume_from_checkpoint", str(made.root)]):
        assert main(words) == 2
        assert "was imported from the TensorBoard log" in capsys.readouterr().err


def test_no_page_offers_what_cannot_be_done_with_it(made: RunLayout) -> None:
    status = read_status(made)
    for health in (Health.DEAD, Health.FAILED, Health.STALE, Health.INTERRUPTED):
        said = str(state_banner(replace(status, health=health)))
        assert "imported from a TensorBoard log" in said and "python -m backend" not in said
    for page in (checkpoints.empty(status), latent.none_yet(status, False), reconstruction.waiting(status)):
        assert "Such a log holds no " in page
    with pytest.raises(InputError, match="imported from a TensorBoard log"):
        from_checkpoint(made.root.name, made.root.parent)


def test_importing_again_changes_nothing_until_the_log_has_grown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = log_run(tmp_path / "vae", 50), tmp_path / "runs"
    assert imported(log, "--output_dir", out) == 0
    before = (out / "vae/metrics.jsonl").stat()
    assert imported(log, "--output_dir", out) == 0
    assert "is up to date (step 50)" in capsys.readouterr().out
    assert (out / "vae/metrics.jsonl").stat() == before
    log_run(log, 10, first=51)
    assert imported(log, "--output_dir", out) == 0
    assert "updated" in capsys.readouterr().out
    assert [row["step"] for row in rows(RunLayout(out / "vae"))] == list(range(1, 61))
    assert not list(out.rglob("*.tmp"))


def test_another_run_of_that_name_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = log_run(tmp_path / "a/log", 20), log_run(tmp_path / "b/log", 20)
    assert imported(one, "--output_dir", tmp_path / "runs", "--name", "x") == 0
    assert imported(other, "--output_dir", tmp_path / "runs", "--name", "x") == 2
    said = capsys.readouterr().err
    assert "is there already and is imported from" in said and "choose another --name" in said
    (tmp_path / "runs/full").mkdir()
    (tmp_path / "runs/full/thesis.txt").write_text("mine")
    assert imported(one, "--output_dir", tmp_path / "runs", "--name", "full") == 2
    assert "is there already and is no run" in capsys.readouterr().err


def test_each_log_below_a_directory_is_a_run_and_broken_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_run(tmp_path / "logs/a/version_0", 20)
    log_run(tmp_path / "logs/b", 20)
    (tmp_path / "logs/c").mkdir()
    (tmp_path / "logs/c/events.out.tfevents.1").write_bytes(b"nothing")
    assert imported(tmp_path / "logs", "--output_dir", tmp_path / "runs", "--name", "exp") == 0
    assert [run.root.name for run in iter_runs(tmp_path / "runs")] == ["exp-a-version_0", "exp-b"]
    assert "left out: " in capsys.readouterr().err


def test_hyperparameters_become_options_and_their_folder_no_run(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path / "vae") as writer:
        for step in range(20):
            writer.add_scalar("loss", 1.0, step)
        writer.add_hparams({"lr": 0.001, "layers": 4, "kind": "vae", "amp": True}, {"hparam/accuracy": 0.9})
    assert imported(tmp_path / "vae", "--output_dir", tmp_path / "runs") == 0
    (run,) = iter_runs(tmp_path / "runs")
    assert read_record(run.run_json, RunInfo).config == {"hparams": {"lr": 0.001, "layers": 4, "kind": "vae", "amp": True}}
    assert rows(run, "validation") == [], "a plugin's copy of a last value is no evaluation"


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    write_events(tmp_path / "vae", scalar(1, "loss", 2.0), scalar(2, "loss", math.nan), scalar(2, "kl", 1.0))
    assert imported(tmp_path / "vae", "--output_dir", tmp_path / "runs") == 0
    assert rows(RunLayout(tmp_path / "runs/vae"))[1]["nonfinite"] == ["loss"]


def test_a_log_that_was_cut_off_is_imported_and_says_so(tmp_path: Path) -> None:
    path = write_events(tmp_path / "vae", *(scalar(step, "loss", 1.0) for step in range(10)))
    path.write_bytes(path.read_bytes()[:-3])
    assert imported(tmp_path / "vae", "--output_dir", tmp_path / "runs") == 0
    run = RunLayout(tmp_path / "runs/vae")
    assert len(rows(run)) == 9
    assert RunLog(run).snapshot(1).verdicts[0].title == "No KL found"
    assert any("damaged or cut off" in event["message"] for event in JsonlTail(run.events).read() if event["kind"] == "warning")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "no such file or folder"), (["empty"], "no TensorBoard logs (*tfevents*)"), (["vae", "--name", "a/b"], "--name 'a/b'"),
        (["vae", "--tag", "kl=nothing"], "no such tag in this log"), (["vae", "--kl_mean_over", "0"], "at least 1"),
    ],
)  # fmt: skip
def test_bad_input_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_events(tmp_path / "vae", scalar(1, "loss", 2.0))
    assert imported(*words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs/vae/run.json").exists()


def test_places_of_tags() -> None:
    tags = read_tags(
        dict.fromkeys(("train/kl", "val/kl", "val/auc", "acc", "train/acc", "val/foo", "bar", "hp/accuracy", "au_ratio"), 5)
    )
    found = {tag: place for place, tag in places(tags).items() if place != ("probe", "kl")}
    assert found == {
        "train/kl": ("training", "kl"), "val/kl": ("validation", "kl"), "val/auc": ("validation", "auroc"),
        "acc": ("validation", "accuracy"), "train/acc": ("training", "accuracy"), "val/foo": ("validation", "val/foo"),
        "bar": ("training", "bar"), "hp/accuracy": ("training", "hp/accuracy"), "au_ratio": ("training", "active_ratio"),
    }  # fmt: skip
    assert place_of("valid/active_units") == ("probe", "active_units")
    assert place_of("loss/prediction_loss") == ("training", "prediction")


def test_names_of_runs() -> None:
    assert plain("my run: 3/4") == "my-run-3-4" and plain("...") == "imported"
    assert top_name(Path("/x/vae/version_3")) == "vae-version_3" and top_name(Path("/x/vae")) == "vae"
