"""`curves`: pictures with what the dashboard's charts hold, the report in words, and what is not there named."""

import warnings
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from backend.__main__ import main
from backend.curves import SHEETS
from backend.curves_source import PlainSource, Thinned, recent_source, source_of_run, training_curves
from backend.plots import STYLE, chart_sheet, draw
from backend.tensorboard_places import Place
from dashboard.runs.loading import RunLog
from shared.collapse import PRESETS
from shared.drawing import COLOURS
from shared.layout import RunLayout
from shared.panels import DECODER, OUTCOME, POSTERIOR, content, wanted
from shared.reader import read_record
from shared.schema import RunInfo, RunState
from shared.series import Series
from shared.writer import write_record
from tests.run_factory import make_run

REPORT = "collapse_analysis.txt"
FILES = {*SHEETS, REPORT}
ALL = [panel for panels, _ in SHEETS.values() for panel in panels]


def curves(*words: object) -> int:
    return main(["curves", *map(str, words)])


def drawn(source: PlainSource, metric: str, empty: str | None = None) -> tuple[Axes, str]:
    """A chart, and all words in it."""
    panel = next(panel for panel in ALL if panel.metric == metric)
    with mpl.rc_context(STYLE):
        axes = Figure().subplots()
        draw(axes, content(source, panel, empty))
    return axes, " | ".join(text.get_text() for text in axes.texts)


def test_the_four_files_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "a", collapse=True)
    assert curves(run.root) == 0
    assert {path.name for path in run.plots.iterdir()} == FILES
    for name in SHEETS:
        with Image.open(run.plots / name) as picture:
            assert picture.width > 1500 and len(picture.convert("RGB").getcolors(1 << 24)) > 50
    said = capsys.readouterr().out
    assert "a: alarm: Posterior collapse" in said and all(name in said for name in FILES)
    report = (run.plots / REPORT).read_text()
    assert "ALARM: Posterior collapse, since step" in report and "evidence" in report
    assert f"python -m backend resume {run.root} --remedy" in report
    assert report.index("Reading guide") < report.index("AUROC: Area under the ROC curve. 0.5 is chance")


def test_a_guide_far_from_the_curve_is_within_the_axes_and_the_charts_fill_the_picture(tmp_path: Path) -> None:
    """Words outside the axes took all the room of the charts, which then lay over each other."""
    steps = np.arange(0, 500, 50.0)
    places: dict[Place, Series] = {
        ("validation", "auprc"): (steps, 0.57 + steps / 1e5),
        ("validation", "positives"): (steps, 0 * steps + 0.15),
    }
    axes, words = drawn(PlainSource(places), "auprc")
    low, high = axes.get_ylim()
    assert "chance 0.15" in words and low < 0.15 < 0.57 < high
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart_sheet(tmp_path / "sheet.png", "name", PlainSource(places), OUTCOME, 3)


def test_a_picture_holds_what_the_page_holds(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", collapse=True, nan_from=900)
    source, snapshot = source_of_run(run), RunLog(run).snapshot(1)
    for panel in ALL:
        ours, theirs = content(source, panel), content(snapshot, panel)
        assert (ours.guides, ours.marks, ours.include, ours.unit) == (theirs.guides, theirs.marks, theirs.include, theirs.unit)
        for mine, yours in zip(ours.curves, theirs.curves, strict=True):
            assert (mine.label, mine.role, mine.dashed) == (yours.label, yours.role, yours.dashed)
            np.testing.assert_array_equal(mine.x, yours.x)
            np.testing.assert_array_equal(mine.y, yours.y)


@pytest.mark.parametrize("collapse", [True, False])
def test_what_is_drawn_in_training_is_of_the_last_lines_and_no_more_than_is_drawn(tmp_path: Path, collapse: bool) -> None:
    run = make_run(tmp_path, "a", steps=1000, collapse=collapse, nan_from=900)
    whole, recent, short = source_of_run(run), recent_source(run, 10**6, POSTERIOR), recent_source(run, 300, POSTERIOR)
    for panel in POSTERIOR:
        theirs, ours = content(whole, panel), content(recent, panel)
        assert (ours.guides, ours.marks, ours.include) == (theirs.guides, theirs.marks, theirs.include)
        for mine, yours in zip(ours.curves, theirs.curves, strict=True):
            np.testing.assert_array_equal(mine.x, yours.x)
            np.testing.assert_array_equal(mine.y, yours.y)
    assert set(recent.curves) <= wanted(POSTERIOR) < set(whole.curves)
    assert short.series("training", "kl")[0][0] == 701


def test_a_curve_is_made_once_for_each_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(
        Thinned, "__init__", lambda self: (made.append(self), setattr(self, "_x", []), setattr(self, "_y", []))[0]
    )
    training_curves({"step": step, "kl": 1.0, "lr": 0.1} for step in range(1, 100))
    assert len(made) == 2


@pytest.mark.parametrize("kept", [True, False])
def test_the_limits_are_those_the_run_is_judged_with(tmp_path: Path, kept: bool) -> None:
    run = make_run(tmp_path, "a", collapse=True)
    info = read_record(run.run_json, RunInfo)
    info.config["monitor"]["sensitivity"] = "strict"
    info.detector = {**asdict(PRESETS["strict"]), "decoder_reliance": 0.005} if kept else None
    write_record(run.run_json, info)
    reliance = "ignores the latent below 0.5%" if kept else "ignores the latent below 1%"
    for source in (source_of_run(run), RunLog(run).snapshot(1)):
        guides = [guide for panel in (*POSTERIOR, *DECODER) for guide in content(source, panel).guides]
        words = [guide.label for guide in guides]
        assert "carries nothing below 0.05" in words and reliance in words
        assert any(guide.high and guide.high == pytest.approx(1.05 * guide.low) for guide in guides), "5 % above the best"


def test_limits_marks_and_colours_are_drawn(tmp_path: Path) -> None:
    source = source_of_run(make_run(tmp_path, "a", collapse=True))
    axes, words = drawn(source, "kl")
    assert axes.get_yscale() == "log"
    assert "carries nothing below 0.1" in words and "Posterior collapse" in words
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert colours["training"] == COLOURS[False]["training"] and colours["probe set"] == COLOURS[False]["probe"]


def test_one_outlier_does_not_flatten_the_rest() -> None:
    found, _ = training_curves({"step": step, "step_s": 8.0 if step == 1 else 1 + 0.01 * (step % 5)} for step in range(1, 500))
    axes, words = drawn(PlainSource(found), "step_s")
    assert words == "beyond the axis: 8" and axes.get_ylim()[1] < 2


def test_a_run_without_a_step_is_no_error_and_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", state=RunState.CREATED)
    assert curves(run.root, "--out", tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert drawn(source_of_run(run), "auroc")[1] == "No validation yet"


def test_of_a_run_that_has_ended_nothing_is_promised(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", steps=5, state=RunState.FINISHED)
    run.evaluations.write_text("")
    assert drawn(source_of_run(run), "auroc")[1] == "No validation"


def test_long_curves_keep_their_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.curves_source.KEPT", 100)
    rows = ({"step": step, "loss": 50.0 if step == 7_654 else step % 3, "v": 1} for step in range(20_000))
    found, _ = training_curves(rows)
    x, y = found["training", "loss"]
    assert len(x) < 500 and y.max() == 50.0 and x[y.argmax()] == 7_654
    assert (x[0], x[-1]) == (0, 19_999)


def test_steps_that_were_not_finite_are_gaps_with_a_mark() -> None:
    found, nonfinite = training_curves([{"step": 1, "kl": 1.0}, {"step": 2, "kl": None, "nonfinite": ["kl"]}, {"step": 3}])
    np.testing.assert_array_equal(found["training", "kl"], [[1, 2], [1.0, np.nan]])
    source = PlainSource(found, nonfinite)
    assert "not finite" in drawn(source, "kl")[1]


def log_scalars(folder: Path, **tags: float) -> Path:
    with SummaryWriter(folder) as writer:
        for step in range(1, 101):
            for tag, level in tags.items():
                if not tag.startswith("val") or step % 10 == 0:
                    writer.add_scalar(tag.replace("__", "/"), level + 0.1 / step, step)
    return folder


def test_a_tensorboard_log_is_drawn_as_far_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = log_scalars(tmp_path / "log", train__kl=0.01, train__total_loss=2.0, val__auroc=0.7, my_own=1.0)
    assert curves(log, "--kl_mean_over", 1) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"log"}
    report = (tmp_path / REPORT).read_text()
    assert "ALARM: Posterior collapse" in report and "auroc = val/auroc" in report
    assert "Not used     my_own" in report


def test_a_metric_without_a_tag_is_named(tmp_path: Path) -> None:
    import argparse

    from backend.curves import of_log

    log = log_scalars(tmp_path / "log", train__kl=0.5, val__auroc=0.7)
    subject = of_log(log, tmp_path, argparse.Namespace(tag=[], kl_mean_over=None))
    words = {p.metric: " ".join(drawn(subject.source, p.metric, subject.missing[p.metric])[1].split()) for p in ALL}
    assert (
        words["recon"] == "No tag for Reconstruction loss in this log (known as recon); if it has another name: --tag recon=TAG"
    )
    assert "No tag for Accuracy" in words["accuracy"]
    assert "good from 0.7" in words["auroc"] and "No tag" not in words["kl"]


def test_several_logs_get_a_folder_each(tmp_path: Path) -> None:
    for name in ("a", "b/version_0"):
        log_scalars(tmp_path / "logs" / name, kl=1.0)
    assert curves(tmp_path / "logs", "--out", tmp_path / "out") == 0
    assert {path.parent.name for path in (tmp_path / "out").glob("*/*.png")} == {"a", "b-version_0"}


def test_what_is_neither_run_nor_log_is_refused_with_the_next_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", "a")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "neither a run (run.json)"),
        (tmp_path / "runs", "name one of them, as"),
    ):
        assert curves(path) == 2
        assert words in capsys.readouterr().err
    assert curves(tmp_path / "runs/a", "--tag", "kl=x") == 2
    assert "a run says itself" in capsys.readouterr().err


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "a")
    (tmp_path / "file").write_text("")
    assert curves(run.root, "--out", tmp_path / "file") == 2
    assert "choose another --out" in capsys.readouterr().err


def test_a_broken_run_json_costs_only_the_options(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    run.run_json.write_text("{")
    source = source_of_run(RunLayout(run.root))
    assert source.configuration == {} and len(source.series("training", "kl")[0]) == 1000
    assert len(content(source, POSTERIOR[0]).curves) == 3
