"""A run of several processes ends in order, whoever is interrupted or dies, and goes on with another number of them."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend.plan import Plan
from backend.training import check_finishing
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from tests.ranked import assert_as_one, one, process, stays, train, words
from tests.starting import ROOT
from tests.tiny_runs import events, go_on, info, metrics, newest

__all__ = ["one", "stays"]


def at_batch(number: int, act: str, kind: str = "training") -> str:
    """Code that does something in the training or validation step of a batch; `rank` is known."""
    return f"""
import os, signal
from backend.lit import SeqSetVAEModule as Module
def step(self, batch, index, was=Module.{kind}_step):
    rank = self.global_rank
    if index == {number}:
        {act}
    return was(self, batch, index)
Module.{kind}_step = step
"""


INTERRUPT = at_batch(9, "os.kill(os.getpid(), signal.SIGINT) if rank == 0 else None")


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_interrupted_and_resumed_with_another_number(
    stays: Path, one: RunLayout, tmp_path: Path, first: int, then: int
) -> None:
    """DDP's by one, and one's by two with FSDP, which takes up a part of everything."""
    child = process(words(stays, tmp_path / "runs", first, remedy="beta_cut"), INTERRUPT)
    assert child.wait() == 130, child.said()[-3000:]
    run = newest(tmp_path / "runs")
    assert info(run).state == "interrupted" and len(metrics(run)) == 5
    assert len(list(run.checkpoints.glob("interrupted_*.ckpt"))) == 1
    options = {"devices": then, "batch_size": 6 // then, "strategy": "fsdp"}
    if then == 1:
        assert go_on(run.root, **options) == 0
    else:
        train(["--output_dir", str(tmp_path / "runs"), "--resume_from_checkpoint", str(run.root),
               *(word for name, value in options.items() for word in (f"--{name}", str(value)))])  # fmt: skip
    assert_as_one(run, one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "act", "said", "strategy"),
    [
        ("training", "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)", r"rank 1: process \d+ was ended by SIGKILL", "ddp"),
        ("training", "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)", r"rank 1: process \d+ was ended by SIGKILL", "fsdp"),
        ("training", "if rank == 0: raise ValueError('a bad stay')", "ValueError: a bad stay", "ddp"),
        (
            "validation",
            "if rank == 1: raise ValueError('a bad stay')",
            r"rank 1: ValueError: a bad stay \(process \d+ on .*\)",
            "ddp",
        ),
    ],
    ids=["second is killed", "second is killed, with fsdp", "first raises", "second raises while validating"],
)
def test_one_that_dies_ends_the_run_as_failed(
    stays: Path, tmp_path: Path, kind: str, act: str, said: str, strategy: str
) -> None:
    child = process(
        words(stays, tmp_path / "runs", 2, strategy=strategy),
        at_batch(5 if kind == "training" else 1, act, kind),
        new_session=True,
    )
    assert child.wait() == 1, child.said()[-3000:]
    run = newest(tmp_path / "runs")
    assert info(run).state == "failed"
    assert re.fullmatch(said, info(run).error or ""), info(run).error
    (error,) = events(run, "error")
    assert re.fullmatch(said, error["message"]) and error["data"] == ({"rank": 1} if "rank 1" in said else {})
    console = run.console.read_text()
    assert re.search(said, console)
    assert ("a bad stay" in act) == ("ValueError: a bad stay" in console)
    assert not list(run.root.glob("rank-*")) and len(list(run.checkpoints.glob("error_*.ckpt"))) == (strategy == "ddp")
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)  # nobody is left of its session
    assert go_on(run.root, devices=1, batch_size=6) == 0


@pytest.mark.slow
def test_torchrun_starts_them_and_a_collapse_stops_all_at_once(stays: Path, tmp_path: Path) -> None:
    """beta 20: collapsed before the first probe."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "backend",
        "train",
    ]
    options = words(stays, tmp_path / "runs", 2, beta_max=20, beta_warmup_steps=0, on_collapse="stop", max_epochs=60,
                    sensitivity="early", probe_patients=64, learning_rate=0.003)  # fmt: skip
    done = subprocess.run(
        [*command, *options], check=False, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, capture_output=True
    )
    run = newest(tmp_path / "runs")
    assert len(list((tmp_path / "runs").iterdir())) == 1, "one run folder"
    assert info(run).state == "interrupted" and "stopped by" in (info(run).error or ""), done.stderr[-3000:]
    assert "exitcode  : 3" in done.stderr or "exitcode: 3" in done.stderr, done.stderr[-3000:]


def test_final_scores_alone_are_not_made_from_shards() -> None:
    fsdp = build_config({"devices": 2, "strategy": "fsdp"})
    plan = Plan(8, 3, 2, 1, 6, 6, 6, 3, 8, 0)
    with pytest.raises(InputError, match=r"trainer\.strategy: 'fsdp', and nothing is left .* step 6 .* --devices 1"):
        check_finishing(fsdp, plan)
    check_finishing(fsdp, dataclasses.replace(plan, start_step=5))
    check_finishing(build_config({"devices": 2}), plan)
