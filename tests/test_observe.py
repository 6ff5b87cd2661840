"""The monitor in a loop of plain PyTorch: one call for every step, and what is said of a call that does not fit."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from backend import watching
from backend.observe import PosteriorMonitor
from backend.recorder import RunRecorder
from shared.layout import RunLayout
from shared.reader import Health, read_status
from tests.test_monitor import LATENT, PlainVAE, data
from tests.tiny_runs import evaluations, events, info, metrics

ROOT = Path(__file__).parents[1]
SMALL = {"update_frequency": 10, "window_size": 10}


def train(monitor: PosteriorMonitor, beta: float, epochs: int = 6, vae: PlainVAE | None = None) -> None:
    """As somebody without Lightning trains."""
    torch.manual_seed(0)
    vae = vae or PlainVAE(beta)
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    batches = [x for _ in range(epochs) for (x,) in data()]
    with monitor:
        for step, x in enumerate(batches, start=1):
            mu, logvar = vae.encoder(x).chunk(2, dim=-1)
            z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
            recon = (vae.decoder(z) - x).square().sum(-1).mean()
            kl = 0.5 * (logvar.exp() + mu.square() - 1 - logvar).sum(-1).mean()
            loss = recon + beta * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.observe(mu, logvar, recon=recon, kl=kl, beta=beta, loss=loss, epoch=step / 16, step=step)


def test_a_healthy_run(tmp_path):
    monitor = PosteriorMonitor(tmp_path / "run", max_steps=96, plot_frequency=48, **SMALL)
    assert monitor.verdict is None
    train(monitor, beta=0.01)
    run = RunLayout(tmp_path / "run")
    assert read_status(run).health is Health.FINISHED
    table = metrics(run)
    assert [row["step"] for row in table] == list(range(1, 97))
    assert table[-1]["active_units"] == LATENT
    assert table[-1]["kl"] == pytest.approx(table[-1]["logged_kl"], rel=1e-4), "its owner's own KL is kept beside ours"
    assert {"recon", "loss", "beta", "epoch"} <= table[-1].keys()
    assert [row["step"] for row in evaluations(run, "probe")] == [*range(10, 91, 10), 96]
    assert evaluations(run, "probe")[-1]["beta"] == 0.01
    assert monitor.verdict.kind == "healthy"
    assert [path.name for path in sorted(run.plots.iterdir())] == ["posterior-000000048.png", "posterior-000000096.png"]
    assert (info(run).max_steps, info(run).device) == (96, "cpu")
    beat = json.loads(run.heartbeat.read_text())
    assert (beat["step"], beat["epoch"], beat["eta_s"]) == (96, 6.0, 0.0)


def test_a_collapse(tmp_path, capsys):
    monitor = PosteriorMonitor(tmp_path / "run", max_steps=192, beta_max=500.0, **SMALL)
    train(monitor, beta=500.0, epochs=12)
    assert (monitor.verdict.kind, monitor.verdict.severity) == ("collapse", "alarm")
    assert monitor.verdicts[0] == monitor.verdict
    assert 20 <= monitor.collapse_detected_step <= 190
    assert "Posterior collapse since step" in capsys.readouterr().err


def test_steps_may_be_left_out(tmp_path):
    with PosteriorMonitor(tmp_path / "run", update_frequency=50, window_size=10) as monitor:
        for step in range(7, 1000, 7):
            monitor.observe(torch.randn(8, 3), torch.zeros(8, 3), step=step)
    run = RunLayout(tmp_path / "run")
    assert [row["step"] for row in metrics(run)] == list(range(7, 1000, 7))
    steps = [row["step"] for row in evaluations(run, "probe")]
    assert steps[0] == 56, "ten steps were not there yet, eight are what there is"
    assert all(later - earlier >= 70 for earlier, later in pairwise(steps[:-1])), "windows do not overlap"


def test_levels_and_a_mask(tmp_path):
    mask = torch.tensor([[True, True, False], [True, False, False]] * 20)
    mu = [torch.randn(40, 3, 2), torch.randn(40, 3, 5)]
    prior = [None, (torch.ones(5), torch.zeros(5))]
    with PosteriorMonitor(tmp_path / "run", update_frequency=1, window_size=1) as monitor:
        monitor.observe(mu, [torch.zeros_like(x) for x in mu], prior=prior, mask=mask, step=1)
    (row,) = metrics(RunLayout(tmp_path / "run"))
    assert row["sets"] == 60
    expected = 0.5 * (mu[0][mask].square().sum(-1).mean() + (mu[1][mask] - 1).square().sum(-1).mean())
    assert row["kl"] == pytest.approx(float(expected), rel=1e-5)
    (probe,) = evaluations(RunLayout(tmp_path / "run"), "probe")
    assert probe["patients"] == 40
    assert probe["mi_gauss_level_1"] + probe["mi_gauss_level_2"] == pytest.approx(probe["mi_gauss"])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"step": 0}, ValueError, r"observe\(step=0\): steps count from 1"),
        ({"step": 2}, ValueError, r"observe\(step=2\): step 2 was observed before; steps have to rise"),
        ({"step": 1}, ValueError, "step 2 was observed before"),
        ({"step": 3, "mu": None}, TypeError, r"mu and logvar have to be two tensors.* a NoneType and a tensor \[4, 3\]"),
        ({"step": 3, "mu": [torch.zeros(4, 3)] * 2}, TypeError, r"two tensors.* a list of 2, of Tensor and a tensor \[4, 3\]"),
        ({"step": 3, "prior": (torch.zeros(2), torch.zeros(2))}, ValueError, r"prior of .* is \[2\], which does not broadcast"),
        ({"step": 3, "prior": torch.zeros(4, 3)}, ValueError, r"the prior of .* is a tensor \[4, 3\]; .* has 1 level"),
        ({"step": 3, "logvar": torch.zeros(4, 1)}, ValueError, r"mu \[4, 3\] and logvar \[4, 1\] have to be of one shape"),
        ({"step": 3, "recon": torch.zeros(4)}, TypeError, r"observe\(recon=...\) has to be one number.*\[4\]; take its mean"),
        ({"step": 3, "recon": "low"}, TypeError, r"observe\(recon=...\) has to be one number.*a str"),
        ({"step": 3, "mask": torch.ones(4)}, ValueError, r"the mask of .* is \[4\] of torch.float32.*\[4\] of torch.bool"),
        ({"step": 3, "mu": torch.zeros(4, 5), "logvar": torch.zeros(4, 5)}, ValueError, "have 5 units now and had 3 before"),
    ],
)
def test_what_does_not_fit_is_said_in_one_error(tmp_path, call, error, words):
    monitor = PosteriorMonitor(tmp_path / "run")
    monitor.observe(torch.zeros(4, 3), torch.zeros(4, 3), step=2)
    with pytest.raises(error, match=words):
        monitor.observe(**{"mu": torch.zeros(4, 3), "logvar": torch.zeros(4, 3), **call})
    monitor.observe(torch.zeros(4, 3), torch.zeros(4, 3), step=4)
    monitor.close()
    assert [row["step"] for row in metrics(RunLayout(tmp_path / "run"))] == [2, 4], "a refused step leaves no trace"


def test_no_step_after_the_end(tmp_path):
    with PosteriorMonitor(tmp_path / "run") as monitor:
        monitor.observe(torch.zeros(4, 3), torch.zeros(4, 3), step=1)
    monitor.close()
    with pytest.raises(ValueError, match="this monitor is closed"):
        monitor.observe(torch.zeros(4, 3), torch.zeros(4, 3), step=2)


def test_a_probe_needs_a_module(tmp_path):
    with pytest.raises(ValueError, match="probe needs module="):
        PosteriorMonitor(tmp_path / "run", probe=lambda module: None)


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("of mine"), "failed")])
def test_what_ends_the_loop_is_the_state_of_the_run(tmp_path, error, state):
    with pytest.raises(type(error)), PosteriorMonitor(tmp_path / "run") as monitor:
        monitor.observe(torch.zeros(4, 3), torch.zeros(4, 3), step=1)
        raise error
    run = info(RunLayout(tmp_path / "run"))
    assert (run.state, run.error) == (state, "RuntimeError('of mine')" if state == "failed" else None)


def test_scripts_that_never_close(tmp_path):
    """Three of them, which are one until torch is loaded."""
    script = """
import os, sys, torch
from backend import watching
from backend.observe import PosteriorMonitor
assert not {"lightning", "pytorch_lightning", "streamlit"} & sys.modules.keys()
for name in ("finished", "failed", "interrupted"):
    if os.fork() == 0:
        break
    os.wait()
else:
    sys.exit()
monitor = PosteriorMonitor(f"{sys.argv[1]}/{name}")
monitor.observe(torch.zeros(4, 3), torch.zeros(4, 3), step=1)
if name == "failed":
    raise RuntimeError("of mine")
if name == "interrupted":
    raise KeyboardInterrupt
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ends = {state: info(RunLayout(tmp_path / state)) for state in ("finished", "failed", "interrupted")}
    assert {name: run.state for name, run in ends.items()} == {name: name for name in ends}
    assert [run.error for run in ends.values()] == [None, "RuntimeError('of mine')", None]


def test_resumed_from_a_checkpoint_of_its_owner(tmp_path):
    figures = [(torch.randn(8, 3), torch.randn(8, 3)) for _ in range(30)]

    def part(steps: range, state: dict | None, folder: str) -> dict:
        monitor = PosteriorMonitor(tmp_path / folder, **SMALL)
        monitor.load_state_dict(state or {})
        for step in steps:
            monitor.observe(*figures[step - 1], step=step)
            if step == 14:
                state = monitor.state_dict()
        monitor.close()
        return state

    state = part(range(1, 18), None, "run")
    part(range(15, 31), state, "run")
    part(range(1, 31), None, "whole")
    assert metrics(RunLayout(tmp_path / "run")) == metrics(RunLayout(tmp_path / "whole"))
    assert [event["message"] for event in events(RunLayout(tmp_path / "run"), "state")] == ["run is running"] * 2 + [
        "run is finished"
    ]
    assert not (tmp_path / "run-2").exists()


def test_a_large_window_stays_out_of_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "KEPT_NUMBERS", 1000)
    with PosteriorMonitor(tmp_path / "run") as monitor:
        monitor.observe(torch.zeros(4, 6), torch.zeros(4, 6), step=1)
        state = monitor.state_dict()
    assert state == {"run": "run"}
    with PosteriorMonitor(tmp_path / "run") as monitor:
        monitor.load_state_dict(state)
        monitor.observe(torch.zeros(4, 6), torch.zeros(4, 6), step=2)
    assert [row["step"] for row in metrics(RunLayout(tmp_path / "run"))] == [1, 2]


class NoWaiting(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        assert not masked and name not in ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "_to_cpu"), name
        return function(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(RunRecorder, "holds", lambda self, packed: True)
    monitor = PosteriorMonitor(tmp_path / "run", layout="convolutional")
    mu = [torch.randn(8, 3, 2, 2), torch.randn(8, 5)]
    monitor.observe(mu, mu, step=1)
    with NoWaiting():
        for step in range(2, 30):
            monitor.observe(mu, mu, prior=[None, (mu[1], mu[1])], recon=mu[0].mean(), beta=mu[1].mean(), step=step)
    monitor.close()
    assert len(metrics(RunLayout(tmp_path / "run"))) == 29


def test_a_probe_and_its_module(tmp_path):
    from backend.any_probe import VAEProbe

    vae = PlainVAE(0.01)
    probe = VAEProbe(
        [data().dataset.tensors[0]], encode=lambda m, x: m.encoder(x).chunk(2, -1), decode=lambda m, z, x: m.decoder(z)
    )
    monitor = PosteriorMonitor(tmp_path / "run", probe=probe, module=vae, update_frequency=10, time_budget=1.0)
    train(monitor, 0.01, epochs=3, vae=vae)
    row = evaluations(RunLayout(tmp_path / "run"), "probe")[-1]
    assert row["patients"] == 256
    assert row["explained"] > 0.5
    assert row["decoder_reliance"] > 1
    assert info(RunLayout(tmp_path / "run")).parameters == sum(p.numel() for p in nn.Module.parameters(vae))
