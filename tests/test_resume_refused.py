"""What cannot be resumed is refused with the reason and the next step."""

import shutil
from pathlib import Path

import pytest
import torch

from backend import checkpoints as checkpoints_module
from backend.checkpoints import AtomicCheckpointIO
from backend.resume import open_resume
from shared.errors import InputError
from shared.layout import RunLayout
from tests.killed_runs import Camera, undisturbed
from tests.tiny_runs import (
    go_on,
    prepare_cohort,
    stays,
)  # fmt: skip

__all__ = ["stays", "undisturbed"]


class TestRefusals:
    @pytest.fixture
    def run(self, undisturbed, tmp_path) -> RunLayout:
        return RunLayout(Path(shutil.copytree(undisturbed[0].root, tmp_path / "run")))

    def refused(self, target: Path, words: str, **options: object) -> None:
        with pytest.raises(InputError, match=words):
            go_on(target, **options)

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "nowhere", "no such checkpoint or run folder")

    def test_folder_without_a_run(self, tmp_path):
        self.refused(tmp_path, "not in a run folder.*--init_from")

    def test_checkpoint_outside_a_run(self, run, tmp_path):
        lonely = shutil.copy(run.checkpoints / "last.ckpt", tmp_path / "last.ckpt")
        self.refused(Path(lonely), "not in a run folder.*--init_from")

    def test_cut_off(self, run):
        path = run.checkpoints / "last.ckpt"
        path.write_bytes(path.read_bytes()[:-2000])
        self.refused(path, "last.ckpt: not a readable checkpoint")
        assert open_resume(run.root).path != path

    def test_not_a_checkpoint(self, run):
        (run.checkpoints / "last.ckpt").write_text("hello")
        self.refused(run.checkpoints / "last.ckpt", "last.ckpt: not a")

    def test_of_another_program(self, run):
        torch.save({"state_dict": {}, "global_step": 3}, run.checkpoints / "last.ckpt")
        self.refused(run.checkpoints / "last.ckpt", "not a SeqSetVAE checkpoint")

    def test_of_an_earlier_version(self, run):
        path = run.checkpoints / "last.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["seqsetvae"]["batches"], checkpoint["seqsetvae"]["settled"]
        torch.save(checkpoint, path)
        self.refused(path, "last.ckpt: an earlier version wrote it, without batches, settled.*--init_from")
        assert open_resume(run.root).path != path

    def test_with_code_inside(self, run):
        torch.save({"seqsetvae": Camera}, run.checkpoints / "last.ckpt")
        self.refused(run.checkpoints / "last.ckpt", "holds code")

    def test_other_data(self, run, tmp_path):
        other = prepare_cohort(tmp_path / "other", seed=9)
        self.refused(run.root, "data.data_dir.*fingerprint differs", data_dir=str(other), max_epochs=9)

    def test_other_sizes(self, run):
        self.refused(run.root, "model.width: .* was trained with 16, and a resumed run cannot change it to 32", width=32)

    def test_still_running(self, run, monkeypatch):
        monkeypatch.setattr("backend.resume.read_status", busy)
        self.refused(run.root, "process 1 on elsewhere is still training this run")


def busy(layout: RunLayout) -> object:
    from shared.reader import Health, RunStatus
    from shared.schema import Heartbeat

    return RunStatus(layout, Health.RUNNING, heartbeat=Heartbeat(pid=1, host="elsewhere"))


def test_checkpoint_of_a_full_disk_leaves_the_older_one(undisturbed, tmp_path, monkeypatch):
    target = tmp_path / "checkpoints" / "last.ckpt"
    target.parent.mkdir()
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, target)
    good = target.read_bytes()

    def full(checkpoint, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(checkpoints_module.torch, "save", full)
    with pytest.raises(OSError, match="file write failed"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(3)}, target)
    assert target.read_bytes() == good
    assert [path.name for path in target.parent.iterdir()] == ["last.ckpt"]
