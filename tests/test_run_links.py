"""Links in the runs folder and inside runs: none leads a page out of the folder, and none takes other runs with it."""

from pathlib import Path

from dashboard.overview.summaries import Summaries
from dashboard.runs.loading import resolve_run
from tests.run_factory import make_run


def test_a_link_that_leads_in_a_circle_hides_no_run(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=5)
    (tmp_path / "circle").symlink_to("circle")
    assert [run.name for run in Summaries(tmp_path).all()] == Summaries(tmp_path).names() == ["a"]
    assert resolve_run(tmp_path, "circle") is None
