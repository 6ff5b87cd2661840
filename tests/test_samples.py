"""Validations on a sample of the stays, and the last one on the whole split: one curve would join what does not compare."""

from pathlib import Path

import pytest

from backend.curves_source import source_of_run
from dashboard.charts import Look
from dashboard.compare.config import groups
from dashboard.compare.outcomes import OF, result, said_stays
from dashboard.compare.results import table
from dashboard.live.cards import card
from dashboard.live.header import told
from dashboard.live.panels import View, figure
from dashboard.overview.rows import row
from dashboard.overview.summaries import Summaries
from dashboard.runs.colours import RunStyle
from dashboard.runs.loading import Snapshot
from shared.layout import RunLayout
from shared.panels import OUTCOME, content
from shared.writer import encode_line
from tests.compared import loaded
from tests.plotted import plotted
from tests.run_factory import make_run

AUROC = ("validation", "auroc")
SAMPLE = [(100, 0.80), (200, 0.85), (300, 0.84)]


def validated(runs: Path, whole: float | None = 0.9) -> RunLayout:
    layout = make_run(runs, "a", steps=300)
    lines = [encode_line(step, {"kind": "validation", "auroc": auroc, "stays": 256.0}) for step, auroc in SAMPLE]
    if whole is not None:
        lines.append(encode_line(300, {"kind": "validation", "auroc": whole, "stays": 1198.0, "full": True}))
    layout.evaluations.write_bytes(b"".join(lines))
    return layout


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    validated(tmp_path)
    return loaded(tmp_path).runs[0].snapshot


def test_the_whole_split_is_a_diamond_beside_the_curve(tmp_path: Path, snapshot: Snapshot) -> None:
    drawn = plotted(figure(snapshot, OUTCOME[0], Look(), View()))
    curve, apart = drawn.data
    assert (curve.name, curve.x.tolist()) == ("validation, 256 stays", [100, 200, 300])
    assert (apart.name, apart.mode, apart.marker.symbol, apart.x.tolist()) == (
        "whole split, 1,198 stays", "markers", "diamond", [300],
    )  # fmt: skip
    assert apart.y.tolist() == pytest.approx([0.9]) and drawn.layout.showlegend
    assert apart.meta is None, "a zoom would fetch the other sample in its place"
    assert card(snapshot, OUTCOME[0], Look(), View())["newest"].split() == ["validation", "0.9", "on", "1,198", "stays"]
    of_file = content(source_of_run(RunLayout(tmp_path / "a")), OUTCOME[0])
    assert [curve.label for curve in of_file.curves] == ["validation, 256 stays", "whole split, 1,198 stays"]


def test_where_all_is_of_one_sample_nothing_is_apart(tmp_path: Path) -> None:
    validated(tmp_path, whole=None)
    (curve,) = plotted(figure(loaded(tmp_path).runs[0].snapshot, OUTCOME[0], Look(), View())).data
    assert curve.name == "validation"


def test_the_best_is_of_one_sample_and_the_final_of_the_whole_split(tmp_path: Path, snapshot: Snapshot) -> None:
    found = result(snapshot, AUROC)
    assert (found.best, found.best_step, found.best_on) == (0.85, 200, 256) and (found.final, found.on) == (0.9, 1198)
    assert OF["auroc"].label_of([snapshot]) == "Best AUROC, validation, 256 stays"
    assert said_stays([256, None, 1198]) == "256 to 1,198" and said_stays([None]) == ""
    seen = table(groups(loaded(tmp_path).runs, False), [AUROC])
    assert seen["Validation stays · final"].tolist() == ["1,198"] and seen["Validation stays · best"].tolist() == ["256"]


def test_the_list_says_on_how_many_stays(tmp_path: Path) -> None:
    validated(tmp_path)
    (summary,) = Summaries(tmp_path).all()
    listed = row(summary, RunStyle(0))
    assert listed["auroc"] == 0.85
    assert listed["auroc_on"] == "Best of the validations on 256 stays; whole split: 0.900 on 1,198 stays"


def test_an_ended_run_is_not_told_that_its_first_evaluation_is_to_come(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=50)
    layout.evaluations.write_bytes(b"")
    layout.events.write_bytes(b"")
    titles = [one.title for one in told(loaded(tmp_path).runs[0].snapshot)]
    assert titles == ["No probe evaluation"]
