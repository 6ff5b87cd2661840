"""Links in the runs folder and inside runs: none leads a page out of the folder, and none takes other runs with it."""

import os
import time
from pathlib import Path

import pytest

from dashboard.checkpoints.listing import file_names
from dashboard.compare.choice import load
from dashboard.jobs.detail import progress_of
from dashboard.jobs.draft import from_checkpoint
from dashboard.jobs.log import tail
from dashboard.jobs.record import Job, JobFolder, Noted
from dashboard.landing import gone
from dashboard.overview.deleting import delete_run
from dashboard.overview.summaries import Summaries
from dashboard.runs import links
from dashboard.runs.colours import Colours
from dashboard.runs.loading import Store, resolve_run
from dashboard.service import Service
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health
from shared.schema import CheckpointSidecar, now
from shared.writer import write_record
from tests.run_factory import make_run


def test_a_link_that_leads_in_a_circle_hides_no_run(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=5)
    (tmp_path / "circle").symlink_to("circle")
    assert [run.name for run in Summaries(tmp_path).all()] == Summaries(tmp_path).names() == ["a"]
    assert resolve_run(tmp_path, "circle") is None


NAMES = [
    "console.log", "metrics.jsonl", "run.json", "notes.json", "heartbeat.json", "posterior", "posterior/step-000000001.parquet",
    "analysis/umap-latents.parquet", "analysis/progress/umap-latents.json",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_link_that_leads_out_is_not_read(tmp_path: Path, name: str) -> None:
    runs, secret = tmp_path / "runs", tmp_path / "secret"
    secret.write_text("a secret\n")
    layout, _ = make_run(runs, "a", steps=5), make_run(runs, "b", steps=5)
    store, summaries = Store(runs, lambda _name: time.monotonic_ns()), Summaries(runs)
    assert store.snapshot("a") is not None and summaries.all()[-1].status.health is Health.FINISHED
    path = layout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(secret, path.parent))
    why = f"{name} is a link to somewhere outside this run; it is not followed"
    assert resolve_run(runs, "a") is None and store.snapshot("a") is None and store.health("a") is None
    listed = {run.name: run.status for run in summaries.all()}
    assert listed["a"].health is Health.BROKEN and listed["a"].reason == why
    assert why in gone("a", runs) and Service(runs).describe("a")["head"] == "gone"
    found = load(["a", "b"], store, Colours(runs))
    assert [run.name for run in found.runs] == ["b"] and found.missing == {"a": why}
    path.unlink()
    make_run(tmp_path, "whole", steps=5)
    if not layout.run_json.exists():
        (tmp_path / "whole" / "run.json").rename(layout.run_json)
    assert {run.name: run.status.health for run in summaries.all()}["a"] is Health.FINISHED, "mended, it is read"


def test_links_within_a_run_are_followed(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    layout.metrics.rename(layout.root / "kept.jsonl")
    layout.metrics.symlink_to("kept.jsonl")
    (layout.root / "circle").symlink_to("circle")
    snapshot = Store(tmp_path, lambda _name: 1).snapshot("a")
    assert snapshot is not None and snapshot.last_step == 5


def test_a_folder_that_does_not_change_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_run(tmp_path, "a", steps=5)
    (layout.root / "posterior").mkdir()
    for folder in (layout.root, layout.root / "posterior"):
        os.utime(folder, (1_000_000_000, 1_000_000_000))
    assert resolve_run(tmp_path, "a") is not None
    monkeypatch.setattr(links.os, "scandir", None)
    assert resolve_run(tmp_path, "a") is not None
    monkeypatch.undo()
    (layout.root / "posterior" / "new").symlink_to(tmp_path)
    assert resolve_run(tmp_path, "a") is None


def test_a_log_that_is_a_link_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret\n")
    (tmp_path / "job.log").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    assert tail(secret) == "a secret" and tail(tmp_path / "job.log") == "" == tail(tmp_path / "pipe") == tail(tmp_path)


def test_a_run_that_is_not_read_can_be_deleted(tmp_path: Path) -> None:
    layout = make_run(tmp_path / "runs", "a", steps=5)
    secret = tmp_path / "secret"
    secret.write_text("a secret\n")
    layout.console.symlink_to(secret)
    delete_run(tmp_path / "runs", "a")
    assert not layout.root.exists() and secret.exists()


JOB = Job(id="20260101-000000-0000", words=["train"], device="cpu", host="here", order=1, run="a")


def save(layout: RunLayout, name: str, step: int) -> None:
    layout.checkpoints.mkdir(parents=True, exist_ok=True)
    (layout.checkpoints / f"{name}.ckpt").write_bytes(b"weights")
    told = CheckpointSidecar(
        file=f"{name}.ckpt", kind="last", step=step, epoch=1, metrics={}, config={}, sha256="0" * 64, bytes=7
    )
    write_record(layout.checkpoints / f"{name}.json", told)


@pytest.mark.parametrize("what", ["sidecar", "file", "folder"])
def test_a_job_tells_nothing_of_checkpoints_outside_its_run(tmp_path: Path, what: str) -> None:
    layout, outside = make_run(tmp_path / "runs", "a", steps=5), RunLayout(tmp_path / "outside")
    save(outside, "secret", 4000)
    if what == "folder":
        layout.checkpoints.symlink_to(outside.checkpoints)
    else:
        save(layout, "last", 3)
        name = "secret.json" if what == "sidecar" else "secret.ckpt"
        (layout.checkpoints / name).symlink_to(outside.checkpoints / name)
    inside = [] if what == "folder" else ["last.ckpt"]
    assert progress_of(tmp_path / "runs", JOB)[1] == (3 if inside else None)
    assert file_names(layout) == inside
    with pytest.raises(InputError, match=r"there is no run|has no checkpoint"):
        from_checkpoint("a/secret.ckpt", tmp_path / "runs")


def test_records_of_jobs_that_are_links_are_not_read(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "runs")
    with folder.locked():
        folder.write(JOB)
    noted, kept = tmp_path / "noted", tmp_path / "kept"
    write_record(noted, Noted(at=now(), status=3))
    folder.file(JOB.id, ".exit").symlink_to(noted)
    assert folder.read(JOB.id).words == ["train"] and folder.noted(JOB.id, ".exit") is None
    folder.file(JOB.id, ".json").rename(kept)
    folder.file(JOB.id, ".json").symlink_to(kept)
    assert folder.all()[0] == [] and "not followed" in folder.all()[1][0]
