"""Posterior figures of linear VAEs, trained on batches, against the closed form of the best one: active units, KL, swap gap.

20 dimensions, eigenvalues geometric from 12 to 0.3, 20,000 points, Adam, 15,000 steps. With a fixed decoder variance of 1 there
are as many latents as dimensions, with a learned one 10. Everything is read by the product's own functions.
"""

import itertools
from typing import Any

import numpy as np
import torch

from backend.probe_row import probe_row
from backend.reliance import reconstruction_figures
from tests.benchmarks.harness import parser_of, report
from tests.linear_vae import LinearVAEs, data, optimum, train

EIGENVALUES = torch.from_numpy(np.geomspace(12, 0.3, 20))
SETTINGS = {"fixed": (20, (0.5, 1.0, 2.0, 4.0, 20.0)), "learned": (10, (0.5, 1.0, 1.5, 2.0, 2.5, 4.0))}
"""Decoder variance: latents and values of beta, none of which brings an eigenvalue within 4 % of tau."""
POINTS = 20_000
SWAPS = 5


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = parser_of("posterior_theory", __doc__)
    parser.add_argument("--seeds", type=int, default=3, help="data sets, each with weights of its own [3]")
    parser.add_argument("--steps", type=int, default=15_000, help="optimizer steps [15000]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads [1]")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    rows = [row for variance in SETTINGS for row in measured(variance, args.seeds, args.steps)]
    report(
        "posterior_theory", rows,
        {
            "active_unit_errors": sum(int(row["active_error"]) for row in rows),
            "kl_max_rel_error": largest(rows, "kl_rel_error"),
            "gap_max_rel_error": largest(rows, "gap_rel_error"),
            "kl_at_total_collapse": max(abs(row["kl"]) for row in rows if row["kl_theory"] == 0),
            "sigma2_max_rel_error": largest(rows, "sigma2_rel_error"),
            "trained": len(rows),
        },
    )  # fmt: skip


def largest(rows: list[dict[str, Any]], name: str) -> float:
    """Largest value of one column, where it exists."""
    return max(float(row[name]) for row in rows if row[name] is not None)


@torch.no_grad()
def measured(variance: str, seeds: int, steps: int) -> list[dict[str, Any]]:
    """One line for each beta and seed: theory, what the product reads, and how far apart they are."""
    latents, betas = SETTINGS[variance]
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x_SND = torch.stack([data(EIGENVALUES, POINTS, generator) for _ in range(seeds)])
    runs = list(itertools.product(betas, range(seeds)))
    model = LinearVAEs(
        torch.tensor([beta for beta, _ in runs]), 20, latents, learn_variance=variance == "learned", generator=generator
    )
    with torch.enable_grad():
        train(model, x_SND, steps=steps, rate=1e-2, batch=256)
    mu, logvar = model.posterior(x_SND.repeat(len(betas), 1, 1))
    z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=generator)
    own = model.reconstruct(z)
    swapped = [model.reconstruct(z.roll(shift, dims=1)) for shift in range(1, SWAPS + 1)]
    rows = []
    for run, (beta, seed) in enumerate(runs):
        theory = optimum(EIGENVALUES, beta, latents, None if variance == "learned" else 1.0)
        figures = [reconstruction_figures(x_SND[seed], own[run], other[run]) for other in swapped]
        error = float((x_SND[seed] - own[run]).square().sum(dim=1).mean())
        gap = float(np.mean([each["decoder_reliance"] for each in figures])) * error
        row, sigma2 = probe_row(mu[run], logvar[run]), float(model.log_sigma2[run].exp())
        rows.append(
            {
                "variance": variance, "beta": beta, "seed": seed,
                "active": row["active_units"], "active_theory": theory.active,
                "active_error": abs(row["active_units"] - theory.active),
                "kl": row["kl"], "kl_theory": theory.kl, "kl_rel_error": apart(row["kl"], theory.kl),
                "gap": gap, "gap_theory": theory.gap, "gap_rel_error": apart(gap, theory.gap),
                "sigma2": sigma2, "sigma2_rel_error": apart(sigma2, theory.sigma2),
            }
        )  # fmt: skip
    return rows


def apart(found: float, expected: float) -> float | None:
    """Relative error; None where nothing is expected."""
    return abs(found / expected - 1) if expected else None
