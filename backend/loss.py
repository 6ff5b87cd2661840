"""Terms of the objective: KL with free bits, beta schedules, outcome loss. All in nats."""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.config import LossConfig
from shared.schedule import BetaSchedule


class Gaussian(NamedTuple):
    """A diagonal Gaussian per row: `mu` and `logvar`, both [N, D]."""

    mu: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """A reparametrised draw [N, D], of fresh noise unless given."""
        return self.mu + (0.5 * self.logvar).exp() * (torch.randn_like(self.mu) if noise is None else noise)


def kl_per_dim(posterior: Gaussian, prior: Gaussian | None = None) -> Tensor:
    """KL(q || p) of each row and dimension, [N, D] in nats; p = N(0, I) unless given.

    1/2 [log(sp2 / sq2) + (sq2 + (mq - mp)^2) / sp2 - 1] (Kingma & Welling 2014, appendix B, for the standard prior).
    """
    if prior is None:
        return 0.5 * (posterior.logvar.exp() + posterior.mu.square() - 1 - posterior.logvar)
    difference = (posterior.mu - prior.mu).square()
    ratio = (posterior.logvar.exp() + difference) * (-prior.logvar).exp()
    return 0.5 * (prior.logvar - posterior.logvar + ratio - 1)


def clamp_free_bits(kl_ND: Tensor, floor: float, mode: Literal["dimension", "set"]) -> Tensor:
    """The KL that the loss sees, a scalar: the batch mean, floored per dimension or per set (Kingma et al. 2016)."""
    if mode == "dimension":
        return kl_ND.mean(dim=0).clamp(min=floor).sum()
    return kl_ND.sum(dim=1).mean().clamp(min=floor)


def beta_at(step: int, config: LossConfig) -> float:
    """Weight of the KL at an optimizer step (0-based)."""
    return BetaSchedule(config.beta_schedule, config.beta_max, config.beta_warmup_steps, config.beta_cycle_ramp).at(step)


def outcome_loss(
    logit_P: Tensor, label_P: Tensor, config: LossConfig, positive_weight: float, labelled: int | None = None
) -> Tensor:
    """Mean loss over the stays whose label is known; exactly 0, with a gradient of 0, when none is.

    Of a share of a batch: its part of the mean over all `labelled` stays.

    Focal: Lin et al. 2017, weights each stay by (1 - p_true)^gamma.
    """
    known = ~label_P.isnan()
    label = torch.where(known, label_P, 0.0)
    target = label * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
    logit = logit_P.float()
    loss = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    if config.prediction_loss == "focal":
        wrong = torch.sigmoid(torch.where(label > 0.5, -logit, logit))
        loss = loss * wrong.pow(config.focal_gamma)
    if config.positive_weight == "balanced":
        loss = loss * torch.where(label > 0.5, positive_weight, 1.0)
    return torch.where(known, loss, 0.0).sum() / (known.sum().clamp(min=1) if labelled is None else max(labelled, 1))


def gaussian_nll(value: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log N(value; mean, exp(logvar)), elementwise, in nats."""
    return 0.5 * (math.log(2 * math.pi) + logvar + (value - mean).square() * (-logvar).exp())
