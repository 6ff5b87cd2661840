"""The README is true: its commands run as written, on small data, and what it points at exists."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from backend import __main__ as backend
from tests.installed import installed, python
from tests.sources import events_frame, write_challenge, write_ehr
from tests.starting import Started

__all__ = ["installed"]
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
COMMANDS = [line.split("#")[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines() if line.strip()]


def test_every_command_is_one_that_this_test_knows():
    heads = {" ".join(command.split()[:4]) for command in COMMANDS if command.startswith("python")}
    assert heads == {
        "python -m backend prepare", "python -m backend train", "python -m backend evaluate", "python -m dashboard --runs",
        "python -m backend preflight", "python -m backend diagnose", "python -m backend resume", "python -m backend curves",
        "python -m backend visualize", "python -m backend import", "python -m backend umap",
        "python -m backend sweep",
    }  # fmt: skip
    assert {c for c in COMMANDS if not c.startswith("python")} == {"make demo", "make test", ". .venv/bin/activate"}


def test_no_command_is_left_out():
    started = {command.split()[3] for command in COMMANDS if command.startswith("python -m backend")}
    started |= {command.split()[1] for command in COMMANDS if command.startswith("make")}
    assert set(backend.COMMANDS) <= started


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets_exist(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_every_link_and_folder_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    folders = re.findall(r"^\| `(\w+/)` \|", README, re.M)
    assert links
    assert folders
    assert [name for name in links + folders if not (ROOT / name).exists()] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A working folder with the inputs that the README names, small."""
    folder = tmp_path_factory.mktemp("readme")
    write_challenge(folder / "path/to/challenge-2012", range(1, 41))
    stay = events_frame([1, 1, 60, 90], ["HR", "Temp", "HR", "HR"], [80, 37, 90, 70])
    splits = {"train": range(100, 120), "valid": range(200, 208), "test": range(300, 308)}
    stays = {split: {str(i): stay.assign(value=stay["value"] + i % 7) for i in ids} for split, ids in splits.items()}
    labels = "".join(f"{i},{i % 2}\n" for ids in splits.values() for i in ids)
    write_ehr(folder / "path/to/data", stays, f"ts_id,in_hospital_mortality\n{labels}")
    (folder / "path/to/sweep.toml").write_text(
        'data_dir = "prepared/mine"\nmax_steps = 2\nmax_epochs = 1\n[sweep]\nmetric = "loss"\ntrials = 1\n'
        '"loss.beta_max" = {low = 0.01, high = 1.0, log = true}\n'
    )
    with SummaryWriter(folder / "path/to/tensorboard/logs") as writer:
        writer.add_scalar("train/kl", 1.0, 1)
    return folder


FORKED = ("preflight", "evaluate", "resume", "visualize")
"""Commands that load what `train`, which starts from nothing, has loaded, ten seconds each; see `test_boundaries`, too."""
ENDS = {"diagnose": (5, "Not judged"), "resume": (2, "name no collapse")}
"""What commands say of a run that is tiny and did not collapse: exit status, and words among their output."""


@pytest.mark.slow
def test_commands_run_in_the_order_in_which_they_stand(desk):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] != "python":
            continue
        for run in (desk / "runs").glob("[!.]*"):
            words = [word.replace("runs/NAME", str(run)) for word in words]
        words[0] = sys.executable
        status, words_said = ENDS.get(words[3], (0, ""))
        if words[2] == "dashboard":
            serves(words, desk, environment)
        elif words[3] in FORKED or "--resume_from_checkpoint" in words:
            child = Started(words[3:], desk / "said.txt", folder=desk)
            assert child.wait(300) == status, f"{command}\n{child.said()}"
            assert words_said in child.said()
        else:
            done = subprocess.run(words, check=False, cwd=desk, env=environment, capture_output=True, text=True)
            assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
            assert words_said in done.stdout + done.stderr
    assert list((desk / "runs").glob("*/checkpoints/last.valid.eval.json"))
    assert len(list((desk / "runs").glob("*/plots/*.png"))) == 3 and len(list((desk / "runs").glob("*/plots/last/*.png"))) == 4
    assert (desk / "runs/tensorboard-logs/run.json").exists()


def serves(words: list[str], desk: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*words, "--port", "8765"], cwd=desk, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        lines = iter(process.stdout.readline, "")
        assert any("8765" in line for line in lines), "the dashboard said no address"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


READERS_OWN = """
import lightning as L
import torch
from torch import nn

class VAE(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder, self.decode = nn.Linear(20, 2 * 4), nn.Linear(4, 20)

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=-1)

    def training_step(self, x, batch_idx):
        self.posterior = mu, logvar = self.encode(x)
        kl = 0.5 * (logvar.exp() + mu.square() - 1 - logvar).sum(-1).mean()
        return (self.decode(mu + (0.5 * logvar).exp() * torch.randn_like(mu)) - x).square().sum(-1).mean() + kl

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

def descend(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

module = vae = VAE()
optimizer = vae.configure_optimizers()
loader = torch.utils.data.DataLoader(torch.randn(2000, 20), batch_size=64)
"""
"""What a reader of the examples has: a model, data, and a way to train."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "steps"), list(zip([block for kind, block in BLOCKS if kind == "python"], (64, 32), strict=True))
)
def test_examples_run_as_they_stand_where_it_is_installed(installed, tmp_path, example, steps):
    assert len(example.strip().splitlines()) <= 12
    done = python(installed, tmp_path, "-c", READERS_OWN + example)
    assert done.returncode == 0, done.stderr
    assert '"finished"' in (tmp_path / "runs/my-vae/run.json").read_text()
    assert len((tmp_path / "runs/my-vae/metrics.jsonl").read_text().splitlines()) == steps
