"""The posterior monitor on somebody else's module and trainer: one callback line gives a run directory."""

import re
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from backend.monitor import PosteriorMetricsMonitor
from shared.collapse import PRESETS
from shared.layout import RunLayout
from shared.reader import Health, read_status
from shared.schedule import BetaSchedule
from shared.verdicts import diagnose_run, limits_of
from tests.tiny_runs import evaluations, events, info, metrics, stays

__all__ = ["stays"]
FEATURES, LATENT = 12, 3


class PlainVAE(L.LightningModule):
    """A VAE as anybody writes it; knows nothing of this project."""

    def __init__(self, beta: float = 0.01, expose: str = "attribute", steps: int = 0) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 2 * LATENT))
        self.decoder = nn.Linear(LATENT, FEATURES)
        self.beta, self.expose = beta, expose
        self.mask: torch.Tensor | None = None

    def training_step(self, batch, batch_idx):
        (x,) = batch
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        recon = (self.decoder(z) - x).square().sum(-1).mean()
        kl = 0.5 * (logvar.exp() + mu.square() - 1 - logvar).sum(-1).mean()
        self.log("my_recon", recon)
        loss = recon + self.beta * kl
        if self.expose == "attribute":
            self.posterior = (mu, logvar)
        elif self.expose == "mask":
            self.posterior, self.posterior_mask = (mu, logvar), (x.abs().sum(-1) > 0)
        elif self.expose == "outputs":
            return {"loss": loss, "mu": mu, "logvar": logvar}
        elif self.expose == "wrong shapes":
            self.posterior = (mu, logvar[..., :1])
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def data(n: int = 256, *shape: int) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(n, *shape, LATENT, generator=generator)
    x = factors @ torch.randn(LATENT, FEATURES, generator=generator) + 0.1 * torch.randn(
        n, *shape, FEATURES, generator=generator
    )
    return DataLoader(TensorDataset(x), batch_size=16)


def fit(monitor: PosteriorMetricsMonitor, module: L.LightningModule, tmp_path: Path, loader=None, more=(), **options) -> None:
    torch.manual_seed(0)
    options = {"max_epochs": 4, "logger": False, **options}
    trainer = L.Trainer(
        accelerator="cpu", callbacks=[monitor, *more], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    trainer.fit(module, loader or data())


@pytest.mark.parametrize("logger", [False, True])
@pytest.mark.parametrize("expose", ["attribute", "outputs"])
def test_one_line_gives_a_run_directory(tmp_path, expose, logger):
    monitor = PosteriorMetricsMonitor(update_frequency=16, plot_frequency=32, window_size=8, log_dir=tmp_path / "run")
    fit(monitor, PlainVAE(expose=expose), tmp_path, logger=logger)
    run = RunLayout(tmp_path / "run")
    assert read_status(run).health is Health.FINISHED
    table = metrics(run)
    assert [row["step"] for row in table] == list(range(1, 65))
    assert {"loss", "kl", "mi_gauss", "posterior_variance", "active_units", "lr", "my_recon"} <= table[-1].keys()
    assert table[-1]["active_units"] == LATENT
    assert [row["step"] for row in evaluations(run, "probe")] == [16, 32, 48, 64]
    assert monitor.verdict.kind == "healthy" and monitor.collapse_detected_step is None
    assert [path.name for path in sorted(run.plots.iterdir())] == ["posterior-000000032.png", "posterior-000000064.png"]
    assert info(run).max_steps == 64


def test_epochs_are_counted_in_fractions(tmp_path):
    fit(PosteriorMetricsMonitor(log_dir=tmp_path / "run"), PlainVAE(), tmp_path, max_epochs=2)
    run = RunLayout(tmp_path / "run")
    assert [row["epoch"] for row in metrics(run)] == [step / 16 for step in range(1, 33)]
    assert read_status(run).heartbeat.epoch == 2


def test_accumulation_gives_one_line_per_optimizer_step(tmp_path):
    monitor = PosteriorMetricsMonitor(log_dir=tmp_path / "run")
    fit(monitor, PlainVAE(), tmp_path, accumulate_grad_batches=3, max_epochs=2)
    table = metrics(RunLayout(tmp_path / "run"))
    assert [row["step"] for row in table] == list(range(1, 13))
    assert [row["sets"] for row in table[:6]] == [48, 48, 48, 48, 48, 16]


def test_collapse_is_found_without_a_probe(tmp_path, capsys):
    monitor = PosteriorMetricsMonitor(update_frequency=10, window_size=10, log_dir=tmp_path / "run")
    fit(monitor, PlainVAE(beta=500.0), tmp_path, max_epochs=12)
    assert (monitor.verdict.kind, monitor.verdict.severity) == ("collapse", "alarm")
    assert 30 <= monitor.collapse_detected_step <= 190
    assert re.search(r"^ALARM: step \d+: Posterior collapse since step", capsys.readouterr().err, re.M)
    run = RunLayout(tmp_path / "run")
    (alarm,) = [event for event in events(run, "verdict") if event["data"]["severity"] == "alarm"]
    assert alarm["step"] == monitor.collapse_detected_step
    assert diagnose_run(run)[0].kind == "collapse", "a replay says the same"


def test_too_few_samples_say_so(tmp_path):
    monitor = PosteriorMetricsMonitor(update_frequency=2, window_size=2, log_dir=tmp_path / "run")
    loader = DataLoader(data().dataset, batch_size=4)
    fit(monitor, PlainVAE(beta=500.0), tmp_path, loader=loader, max_epochs=1)
    assert monitor.verdict.kind == "insufficient"
    assert {row["active_units"] for row in metrics(RunLayout(tmp_path / "run"))} == {None}


def test_sequences_with_a_mask(tmp_path):
    loader = data(64, 7)
    x = loader.dataset.tensors[0]
    x[::2, 4:] = 0
    monitor = PosteriorMetricsMonitor(update_frequency=4, window_size=4, log_dir=tmp_path / "run")
    fit(monitor, PlainVAE(expose="mask"), tmp_path, loader=loader)
    run = RunLayout(tmp_path / "run")
    assert {row["sets"] for row in metrics(run)} == {8 * 4 + 8 * 7}
    # Time steps of one sequence are no independent samples: 4 steps of 16 sequences.
    assert {row["patients"] for row in evaluations(run, "probe")} == {64}


def test_images_flattened_by_their_owner(tmp_path):
    class Spatial(PlainVAE):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            mu, logvar = (x.view(-1, LATENT, 1, 1).expand(-1, -1, 2, 2) for x in self.posterior)
            self.posterior = (mu.flatten(1), logvar.flatten(1))
            return loss

    fit(PosteriorMetricsMonitor(log_dir=tmp_path / "run"), Spatial(), tmp_path, max_epochs=2)
    assert metrics(RunLayout(tmp_path / "run"))[-1]["active_units"] == 4 * LATENT


@pytest.mark.parametrize(
    ("expose", "error", "words"),
    [
        ("nothing", TypeError, r"PlainVAE exposes no posterior: set `self.posterior = \(mu, logvar\)`"),
        ("wrong shapes", ValueError, r"mu \[16, 3\] and logvar \[16, 1\] have to be of one shape"),
    ],
)
def test_helpful_errors(tmp_path, expose, error, words):
    with pytest.raises(error, match=words):
        fit(PosteriorMetricsMonitor(log_dir=tmp_path / "run"), PlainVAE(expose=expose), tmp_path)
    assert info(RunLayout(tmp_path / "run")).state == "failed"
    assert "posterior" in info(RunLayout(tmp_path / "run")).error


def test_a_posterior_that_follows_its_own_prior_is_a_collapse(tmp_path):
    class Following(PlainVAE):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.prior = tuple(x.detach().clone() for x in self.posterior)
            return loss

    monitor = PosteriorMetricsMonitor(update_frequency=4, window_size=4, log_dir=tmp_path / "run")
    fit(monitor, Following(), tmp_path)
    row = metrics(RunLayout(tmp_path / "run"))[-1]
    assert (row["kl"], row["mi_gauss"], row["active_units"]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert (monitor.verdict.kind, monitor.verdict.severity) == ("collapse", "alarm")


def test_a_prior_that_is_not_read_is_said_once(tmp_path, capsys):
    class Learned(PlainVAE):
        def __init__(self):
            super().__init__()
            self.prior = nn.Linear(1, 2 * LATENT)

    fit(PosteriorMetricsMonitor(log_dir=tmp_path / "run"), Learned(), tmp_path, max_epochs=1)
    assert capsys.readouterr().err.count("Learned.prior is a Linear and is not read: figures are relative to N(0, I)") == 1
    assert len(events(RunLayout(tmp_path / "run"), "warning")) == 1


def test_layers_to_tap_are_suggested(tmp_path):
    class Heads(PlainVAE):
        def __init__(self):
            super().__init__(expose="nothing")
            self.fc_mu, self.fc_var = nn.Linear(1, 1), nn.Linear(1, 1)

    with pytest.raises(TypeError, match=r"or name its layers, as in posterior_from=\('fc_mu', 'fc_var'\)"):
        fit(PosteriorMetricsMonitor(log_dir=tmp_path / "run"), Heads(), tmp_path)


def test_of_several_processes_the_first_is_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    monitor = PosteriorMetricsMonitor(log_dir=tmp_path / "run")
    fit(monitor, PlainVAE(), tmp_path, max_epochs=1)
    assert not (tmp_path / "run").exists()
    assert monitor.verdict is None


def test_pytorch_lightning_by_its_older_name(tmp_path):
    import pytorch_lightning as pl

    class Older(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(FEATURES, 2 * LATENT)

        def training_step(self, batch, batch_idx):
            self.posterior = self.encoder(batch[0]).chunk(2, dim=-1)
            return self.posterior[0].square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                         callbacks=[PosteriorMetricsMonitor(log_dir=tmp_path / "run")])  # fmt: skip
    trainer.fit(Older(), data())
    assert len(metrics(RunLayout(tmp_path / "run"))) == 16


def test_warm_up_of_a_foreign_module_is_kept_in_its_run(tmp_path):
    monitor = PosteriorMetricsMonitor(
        update_frequency=4, window_size=4, log_dir=tmp_path / "run", beta_warmup_steps=3000, beta_max=500.0, sensitivity="early"
    )
    fit(monitor, PlainVAE(beta=500.0), tmp_path, max_epochs=12)
    run = RunLayout(tmp_path / "run")
    schedule = BetaSchedule.of(info(run).config)
    assert (schedule.warmup, schedule.maximum) == (3000, 500.0)
    assert limits_of(info(run)) == PRESETS["early"]
    assert (monitor.verdict.kind, monitor.verdict.severity) == ("collapse", "info")
    assert diagnose_run(run)[0] == monitor.verdict


def test_needs_a_folder(tmp_path):
    with pytest.raises(ValueError, match="needs log_dir"):
        fit(PosteriorMetricsMonitor(), PlainVAE(), tmp_path)


def test_an_older_run_is_never_written_over(tmp_path, capsys):
    for _ in range(2):
        fit(PosteriorMetricsMonitor(log_dir=tmp_path / "run"), PlainVAE(), tmp_path, max_epochs=1)
    assert len(metrics(RunLayout(tmp_path / "run"))) == len(metrics(RunLayout(tmp_path / "run-2"))) == 16
    assert "this one goes to" in capsys.readouterr().err
