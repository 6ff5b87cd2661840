"""What cannot be resumed is refused with the reason and the next step."""

import os
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch

from backend import checkpoints as checkpoints_module
from backend.checkpoints import AtomicCheckpointIO
from backend.ownership import HELPER_OF
from backend.resume import open_resume
from backend.training import train
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.schema import Heartbeat, RunState, now
from shared.writer import write_record
from tests.killed_runs import Camera, undisturbed
from tests.tiny_runs import (
    go_on,
    info,
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

    def test_still_running_however_old_its_heartbeat(self, run, monkeypatch):
        """A process that is stopped or waits for a slow disk is still there to write."""
        with subprocess.Popen(["sleep", "60"]) as other:
            try:
                self.taken_up_by(run, other.pid)
                self.refused(run.root, f"process {other.pid} on this machine is still training this run")
                monkeypatch.setenv(HELPER_OF, str(run.root))
                assert open_resume(run.root).path is not None, "a helper of the process that does go on is let through"
            finally:
                other.kill()
        monkeypatch.delenv(HELPER_OF)
        assert open_resume(run.root).path is not None, "a fresh heartbeat of a dead process does not keep it"

    def test_a_process_number_that_was_given_out_again(self, run):
        self.taken_up_by(run, os.getppid(), started=now() - timedelta(days=900))
        assert open_resume(run.root).path is not None

    def taken_up_by(self, run: RunLayout, pid: int, started: datetime | None = None) -> None:
        record = info(run)
        record.state = RunState.RUNNING
        record.sessions[-1].pid, record.sessions[-1].started_at = pid, started or now()
        write_record(run.run_json, record)
        write_record(run.heartbeat, Heartbeat(pid=pid, host=record.sessions[-1].host, at=now() - timedelta(hours=2)))

    def test_another_process_takes_the_run_up_meanwhile(self, run):
        resume = open_resume(run.root)
        with subprocess.Popen(["sleep", "60"]) as other:
            self.taken_up_by(run, other.pid)
            try:
                with pytest.raises(InputError, match="still training this run"):
                    train(build_config({"max_epochs": 9}, base=resume.config()), resume)
            finally:
                other.kill()

    def test_still_running(self, run, monkeypatch):
        monkeypatch.setattr("backend.ownership.read_status", busy)
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
