"""Several processes train as one: the same losses, figures and log; one run, whoever dies; a resume with another number."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.batches import StayDataset
from backend.preparing import build
from backend.ranks import join
from backend.sharing import SharedStays
from backend.simulate import Simulation
from shared.config import DataConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.torch_file import open_torch_file
from tests.cohort import cohort
from tests.tiny_runs import TINY, evaluations, events, go_on, info, metrics, newest

ROOT = Path(__file__).parents[1]
SMALLEST = 0.05
"""Differences are relative to the value, or to this where it is smaller: figures near 0 are differences of numbers near 1."""


def words(data: Path, out: Path, devices: int, **options: object) -> list[str]:
    chosen = {
        **TINY,
        "dropout": 0,
        "loss_weighting": "dynamic",
        "batch_size": 6 // devices,
        "devices": devices,
        "data_dir": data,
        "output_dir": out,
        **options,
    }
    return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]


def process(words: list[str], before: str = "", **options: Any) -> subprocess.Popen[str]:
    """`python -m backend train`, after some code of the test's own in every process."""
    code = f"import sys, backend.__main__ as main\n{before}\nsys.exit(main.main())"
    stub = Path(words[words.index("--output_dir") + 1]).with_suffix(".py")
    stub.write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(stub), "train", *words], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def train(words: list[str], before: str = "") -> RunLayout:
    child = process(words, before)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said[-3000:]
    assert len([line for line in said.splitlines() if line.startswith("finished ")]) == 1, said
    return newest(Path(words[words.index("--output_dir") + 1]))


def numbers(row: dict[str, Any], name: str = "") -> dict[str, float | None]:
    """Every number of a line, also inside tables and lists."""
    found: dict[str, float | None] = {}
    for key, value in row.items():
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inner, dict):
            found |= numbers({str(k): v for k, v in inner.items()}, f"{name}{key}.")
        elif value is None or isinstance(value, int | float):
            found[name + key] = value
    return found


def assert_as_one(run: RunLayout, one: RunLayout, least: float = 1e-5) -> None:
    for log in (metrics, lambda layout: evaluations(layout, "validation"), lambda layout: evaluations(layout, "probe")):
        ours, theirs = log(run), log(one)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for row, other in zip(ours, theirs, strict=True):
            mine, its = numbers(row), numbers(other)
            assert mine.keys() == its.keys()
            for name, value in its.items():
                if value is None or mine[name] is None:
                    assert mine[name] is value, name
                    continue
                apart = abs(mine[name] - value) / max(abs(value), SMALLEST)
                assert apart < (least if ".per_dim" not in name and "per_dim." not in name else 1e-3), (
                    row["step"],
                    name,
                    mine[name],
                    value,
                )


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 stays to train on: the last batch of an epoch holds one, and the second of two processes has none of its own.

    70 to validate with are three batches, and the second process has but one of them.
    """
    folder = tmp_path_factory.mktemp("data") / "stays"
    build(Simulation(120, 0), folder, seed=0, valid=70 / 120, test=7 / 120)
    return folder


@pytest.fixture(scope="module")
def one(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return train(words(stays, tmp_path_factory.mktemp("one") / "runs", 1, remedy="beta_cut"))


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(stays: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> RunLayout:
    return train(words(stays, tmp_path_factory.mktemp("two") / "runs", 2, remedy="beta_cut", strategy=request.param))


@pytest.mark.slow
def test_two_processes_train_as_one_remedies_included(one: RunLayout, two: RunLayout) -> None:
    assert len(metrics(two)) == 12
    assert {row["stays"] for row in evaluations(two, "validation")} == {70}, "each stay once"
    assert_as_one(two, one)
    assert len(list(two.root.parent.iterdir())) == 1, "one run folder"
    assert info(two).device.startswith("2 processes")
    for kind in ("remedy", "verdict", "checkpoint"):
        ours, theirs = events(two, kind), events(one, kind)
        assert [(e["step"], e["data"].keys()) for e in ours] == [(e["step"], e["data"].keys()) for e in theirs]
    assert any(e["data"]["action"] == "cut" for e in events(two, "remedy")), "the remedy has to act, or nothing is tested"
    assert described(two) == described(one)
    if info(two).config["trainer"]["strategy"] == "fsdp":
        assert go_on(two.checkpoints / MIDDLE, devices=1, batch_size=6) == 0
        assert_as_one(two, one)


MIDDLE = "earlier_step-000000006.ckpt"


def described(run: RunLayout) -> list[tuple[tuple[str, ...], tuple[int, ...], str]]:
    """Every tensor of a checkpoint, in its order, as the dashboard reads it: path, shape, kind of number."""
    with open_torch_file(run.checkpoints / MIDDLE) as file:
        return [(found.path, found.tensor.shape, found.tensor.dtype) for found in file.tensors]


@pytest.mark.slow
def test_fsdp_goes_on_from_the_checkpoint_of_one_process(one: RunLayout, tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "runs" / one.root.name)
    shutil.copytree(one.root, run.root)
    train(["--output_dir", str(run.root.parent), "--resume_from_checkpoint", str(run.checkpoints / MIDDLE),
           *["--devices", "2", "--batch_size", "3", "--strategy", "fsdp"]])  # fmt: skip
    assert_as_one(run, one)


JOINED = """
import backend.plan, backend.token_batches as batches, backend.train
def stream(dataset, config, epochs, rank=0):
    packing = batches.packing_of(dataset, config)
    class Joined(batches.PartSampler):
        def __iter__(self):
            return (sum(parts, []) for parts in super().__iter__())
    return batches.WeightedStays(dataset, packing.batches // 2), Joined(packing, epochs, 2)
backend.plan.world_of = batches.world_of = lambda config: 2
backend.train.stream = stream
"""
"""One process that is fed what two are: their two batches as one."""


@pytest.mark.slow
def test_batches_of_events_train_as_one_process_on_the_same(stays: Path, tmp_path: Path) -> None:
    options = {"batch_events": 1500, "max_epochs": 2}
    two = train(words(stays, tmp_path / "two", 2, **options))
    one = train(words(stays, tmp_path / "one", 1, **options), JOINED)
    assert len({row["stays"] for row in metrics(two)}) > 2, "batches of different weights, or nothing is tested"
    assert_as_one(two, one)


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
    child = process(words(stays, tmp_path / "runs", first, remedy="beta_cut"), INTERRUPT)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 130, said[-3000:]
    run = newest(tmp_path / "runs")
    assert info(run).state == "interrupted" and len(metrics(run)) == 5
    assert len(list(run.checkpoints.glob("interrupted_*.ckpt"))) == 1
    options = {"devices": then, "batch_size": 6 // then}
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
    started = time.monotonic()
    child = process(
        words(stays, tmp_path / "runs", 2, strategy=strategy),
        at_batch(5 if kind == "training" else 1, act, kind),
        start_new_session=True,
    )
    heard, _ = child.communicate(timeout=120)
    assert child.returncode == 1, heard[-3000:]
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
    assert time.monotonic() - started < 60
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


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ({}, {"WORLD_SIZE": "2", "RANK": "0"}, r"trainer\.devices: 1, and a launcher started 2 processes; give --devices"),
        (
            {"num_nodes": 2, "devices": 2},
            {},
            r"trainer\.num_nodes: 2 machines need a launcher; start this with torchrun or srun",
        ),
    ],
)
def test_a_wrong_number_is_named(monkeypatch: pytest.MonkeyPatch, options: dict, environment: dict, said: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        join(build_config({"accelerator": "cpu", **options}), "cpu")


@pytest.mark.parametrize("world", [2, 3])
def test_shares_know_the_whole(world: int) -> None:
    """Every set of the whole batch is somebody's, at its place; who has no stay counts for nothing."""
    stays = StayDataset(cohort(stays=7, seed=1), "train", DataConfig())
    for rows in ([4, 0, 2, 5, 6], [3]):
        whole = stays[rows]
        shares = [SharedStays(stays, rank, world)[rows] for rank in range(world)]
        found = np.full(whole.sets, -1)
        for rank, share in enumerate(shares):
            known = share.whole
            assert known is not None
            assert (known.sets, known.stays, known.labelled) == (whole.sets, len(rows), int((~whole.label.isnan()).sum()))
            assert known.stand_in == (not rows[rank::world])
            if not known.stand_in:
                found[known.place] = share.set_row
        assert found.tolist() == whole.set_row.tolist()
        assert shares[0].whole.sets_of_rank == tuple(0 if s.whole.stand_in else s.sets for s in shares)


def test_noise_is_that_of_one_process() -> None:
    stays = StayDataset(cohort(stays=7, seed=1), "train", DataConfig())
    whole = stays[[4, 0, 2]]
    torch.manual_seed(5)
    noise = torch.randn_like(torch.zeros(whole.sets, 8).chunk(2, dim=-1)[0])
    for rank in range(2):
        share = SharedStays(stays, rank, 2)[[4, 0, 2]]
        torch.manual_seed(5)
        assert torch.equal(share.whole.noise_like(torch.zeros(share.sets, 4)), noise[share.whole.place])
