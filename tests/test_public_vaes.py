"""One callback line on models in the styles of public VAEs: figures against direct computation, healthy and collapsed."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from backend.any_probe import VAEProbe
from backend.monitor import PosteriorMetricsMonitor
from shared.layout import RunLayout
from tests.public_vaes import (
    VRNN,
    ConvVAE,
    LadderVAE,
    LatentDiffusionFirstStage,
    VAEXperiment,
    gaussian_kl,
    images,
    sequences,
)
from tests.test_monitor import fit
from tests.tiny_runs import evaluations, metrics

WINDOW = 8
EPOCHS = 12
Pair = tuple[Tensor, Tensor]


class Kept(L.Callback):
    """The latents of the last steps, [N, D] per level, as the model itself had them; `of` reads them from module and outputs."""

    def __init__(self, of: Any) -> None:
        self.of = of
        self.steps: list[list[tuple[Pair, Pair]]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps = [*self.steps, self.of(pl_module, outputs)][-WINDOW:]


def flat(posterior: Pair, prior: Pair | None = None) -> tuple[Pair, Pair]:
    """(posterior, prior) of one level of maps, every value a unit."""
    mu, logvar = (x.detach().flatten(1) for x in posterior)
    zero = torch.zeros_like(mu)
    return (mu, logvar), (zero, zero) if prior is None else tuple(x.detach().flatten(1) for x in prior)


def direct(steps: list[list[tuple[Pair, Pair]]]) -> dict[str, float]:
    """The figures of design and README, in float64, without any of our code. Active units and information beyond the prior."""
    found = {"kl": 0.0, "mi_gauss": 0.0, "active_units": 0.0, "latent_dims": 0.0}
    for level in range(len(steps[0])):
        q = [torch.cat([step[level][0][i] for step in steps]).double() for i in (0, 1)]
        p = [torch.cat([step[level][1][i] for step in steps]).double() for i in (0, 1)]
        mu, variance = (q[0] - p[0]) / (0.5 * p[1]).exp(), (q[1] - p[1]).exp()
        information = 0.5 * ((mu.var(0, unbiased=False) + variance.mean(0)).log() - variance.log().mean(0)).sum()
        active = (mu.var(0) > 0.01).sum()
        found[f"mi_gauss_level_{level + 1}"] = float(information)
        found[f"active_ratio_level_{level + 1}"] = float(active / mu.shape[1])
        found["kl"] += float(gaussian_kl(q, p).sum(1).mean())
        found["mi_gauss"] += float(information)
        found["active_units"] += float(active)
        found["latent_dims"] += mu.shape[1]
    return found if len(steps[0]) > 1 else {name: value for name, value in found.items() if "level" not in name}


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Modules are made before the trainer seeds: their weights would depend on the tests before."""
    torch.manual_seed(0)


def watched(tmp_path: Path, module: L.LightningModule, loader, of, **options) -> tuple[PosteriorMetricsMonitor, dict[str, Any]]:
    """Train with the callback and check its last line and its last evaluation against direct computation."""
    monitor = PosteriorMetricsMonitor(update_frequency=WINDOW, window_size=WINDOW, log_dir=tmp_path / "run", **options)
    kept = Kept(of)
    fit(monitor, module, tmp_path, loader, max_epochs=EPOCHS, more=[kept])
    run = RunLayout(tmp_path / "run")
    line, row = metrics(run)[-1], evaluations(run, "probe")[-1]
    assert line["step"] == row["step"] == EPOCHS * 10
    assert line["kl"] == pytest.approx(direct(kept.steps[-1:])["kl"], rel=1e-3, abs=1e-6)
    for name, value in direct(kept.steps).items():
        assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert monitor.verdict.severity == ("ok" if monitor.verdict.kind == "healthy" else "alarm")
    return monitor, row


def conv(module, outputs):
    return [flat(module.model.latest)]


@pytest.mark.parametrize(("weight", "kind"), [(1e-4, "healthy"), (10.0, "collapse")])
def test_pytorch_vae_left_as_it_is(tmp_path, weight, kind):
    model = ConvVAE()
    model.register_forward_hook(lambda module, _, outputs: setattr(module, "latest", outputs[2:]))
    monitor, row = watched(
        tmp_path, VAEXperiment(model, weight), images(), conv,
        posterior_from=("model.conv_mu", "model.conv_var"), layout="convolutional",
    )  # fmt: skip
    assert row["latent_dims"] == 2 * 4 * 4
    assert row["patients"] == WINDOW * 32
    assert monitor.verdict.kind == kind
    assert {"Reconstruction_Loss", "KLD"} <= metrics(RunLayout(tmp_path / "run"))[-1].keys()


@pytest.mark.parametrize(("betas", "kind"), [((0.05,), "healthy"), ((0.05, 500.0), "partial_level"), ((500.0,), "collapse")])
def test_ladder_of_maps_with_conditional_priors(tmp_path, betas, kind):
    monitor, row = watched(
        tmp_path, LadderVAE(*betas), images(),
        lambda module, _: [flat(q, p) for q, p in zip(module.posterior, module.prior, strict=True)], layout="convolutional",
    )  # fmt: skip
    assert row["latent_dims"] == 2 * 2 * 2 + 4 * 4
    assert monitor.verdict.kind == kind
    assert monitor.verdict.level == (2 if kind == "partial_level" else None)


@pytest.mark.parametrize(("beta", "kind"), [(0.1, "healthy"), (200.0, "collapse")])
def test_vrnn_with_masks_and_a_prior_of_every_step(tmp_path, beta, kind, capsys):
    def masked(module, outputs):
        mask = outputs["posterior_mask"]
        return [tuple((a[mask].detach(), b[mask].detach()) for a, b in ((outputs["mu"], outputs["logvar"]), outputs["prior"]))]

    monitor, row = watched(tmp_path, VRNN(beta), sequences(), masked)
    assert row["latent_dims"] == 2
    assert row["patients"] == WINDOW * 32 < row["sets"]
    assert row["beta"] == beta, "of the attribute"
    assert monitor.verdict.kind == kind
    assert "VRNN.prior" not in capsys.readouterr().err, "the layer by that name is not the prior, and another was given"


@pytest.mark.parametrize("options", [{}, {"posterior_from": "vae.quant_conv"}])
@pytest.mark.parametrize(("weight", "kind"), [(1e-2, "healthy"), (1e3, "collapse")])
def test_autoencoder_kl(tmp_path, weight, kind, options):
    monitor, _ = watched(
        tmp_path, LatentDiffusionFirstStage(weight), images(),
        lambda module, _: [flat((module.posterior.mean, module.posterior.logvar))], layout="convolutional", **options,
    )  # fmt: skip
    assert monitor.verdict.kind == kind


def test_a_fixed_probe_of_the_ladder(tmp_path):
    held_out = images(64).dataset.tensors[0]
    probe = VAEProbe(
        [held_out], encode=LadderVAE.encode, decode=lambda module, z, x: (module.decode(z), 1.0), layout="convolutional"
    )
    monitor = PosteriorMetricsMonitor(
        update_frequency=10, log_dir=tmp_path / "run", probe=probe, time_budget=1.0, layout="convolutional"
    )
    fit(monitor, LadderVAE(0.05), tmp_path, images(), max_epochs=EPOCHS)
    row = evaluations(RunLayout(tmp_path / "run"), "probe")[-1]
    assert (row["patients"], row["latent_dims"]) == (64, 24)
    assert row["mi_gauss_level_1"] + row["mi_gauss_level_2"] == pytest.approx(row["mi_gauss"], rel=1e-4)
    assert row["explained"] > 0.5 and row["decoder_reliance"] > 1
    assert monitor.verdict.kind == "healthy"
