"""SeqSetVAE as a LightningModule: one step of training, one of validation, the optimizer. No files, no printing."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_accuracy, binary_auroc, binary_average_precision

from backend.batches import Batch
from backend.loss import Gaussian, beta_at, clamp_free_bits, outcome_loss
from backend.model import Encoded, SeqSetVAE
from backend.shards import full, shard
from backend.validation import Part, Scored
from backend.whole import draw_apart
from shared.config import OptimConfig, TrainConfig

LARGEST_LOG_VARIANCE = 3.0
"""Learned weights stay between exp(-3) and exp(3): unbounded, a term near 0 takes all of the weight."""
STEP_SCALARS = ("loss", "recon", "kl", "kl_loss", "prediction", "elbo", "weight_recon", "weight_prediction")
TERMS = ("recon", "kl", "kl_loss", "prediction")
MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auroc": binary_auroc,
    "auprc": binary_average_precision,
    "accuracy": binary_accuracy,
}


class SeqSetVAEModule(L.LightningModule):
    """Trains `SeqSetVAE`.

    After each training step `posterior` holds (mu, logvar) [S, levels * D] of the batch and `prior` the conditional prior:
    that is all the posterior monitor needs, of this module or any other.
    """

    def __init__(
        self,
        config: TrainConfig,
        modelled_V: Tensor,
        embeddings_VD: Tensor | None = None,
        *,
        total_steps: int = 1,
        positive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.total_steps = total_steps
        self.positive_weight = positive_weight
        model = config.model
        if config.trainer.stage == "pretrain":
            model = model.model_copy(update={"decoder_input": "latent"})
        self.net = SeqSetVAE(model, config.loss, modelled_V, embeddings_VD)
        self.log_variance = nn.Parameter(torch.zeros(2)) if config.loss.loss_weighting == "dynamic" else None
        self.posterior: Gaussian | None = None
        self.prior: Gaussian | None = None
        self.grad_norm: Tensor | None = None
        self.validation: dict[str, float | None] = {}
        self.trained_steps = 0
        """Of a module from a checkpoint, evaluated without a trainer: beta depends on it."""
        self.part = Part()
        """The batches of a validation that are evaluated here; set by who begins one."""
        self._scored: dict[int, Scored] = {}
        self._beta: float | None = None
        self.free_bits = config.loss.free_bits
        freeze(self)

    @property
    def beta(self) -> float:
        """Weight of the KL: what a remedy has set, else what the schedule says of the step in hand."""
        return self.scheduled_beta if self._beta is None else self._beta

    @beta.setter
    def beta(self, value: float | None) -> None:
        """Override the schedule; None follows it again."""
        self._beta = value

    @property
    def steered(self) -> dict[str, float | None]:
        """What remedies have set; kept in checkpoints, for a loss means little without it."""
        return {"beta": self._beta, "free_bits": self.free_bits}

    @steered.setter
    def steered(self, kept: Mapping[str, Any]) -> None:
        """As a checkpoint kept it."""
        self._beta, self.free_bits = kept.get("beta"), kept.get("free_bits", self.free_bits)

    @property
    def scheduled_beta(self) -> float:
        """What the schedule says of the step in hand."""
        return beta_at(self.global_step or self.trained_steps, self.config.loss)

    @property
    def beta_max(self) -> float:
        """The largest weight of the KL."""
        return self.config.loss.beta_max

    @property
    def free_bits_mode(self) -> str:
        """Whether `free_bits` is a floor per dimension or per set."""
        return self.config.loss.free_bits_mode

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """What makes the posterior, as far as it is trained."""
        return (p for p in self.net.encoder.parameters() if p.requires_grad)

    def objective(self, batch: Batch, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, values of `scalars` detached, outcome logits [P]) for sampled or mean latents.

        The loss weights the batch by its shares of the epoch; among the values is the batch's own, comparable with any other.
        """
        config = self.config.loss
        state = self.net.states(encoded.z, batch) if self.uses_sequence else encoded.z
        zero = encoded.z.new_zeros(())
        recon_S = self.net.reconstruction_loss(encoded.z, state, batch) if self.uses_decoder else zero[None]
        kl_SD, whole = encoded.kl(), batch.whole
        labelled = whole.labelled if whole is not None else None
        logit = self.net.classify(state, batch) if self.uses_classifier else zero.expand(batch.stays)
        prediction = outcome_loss(logit, batch.label, config, self.positive_weight, labelled) if self.uses_classifier else zero
        if whole is not None:
            recon_S, kl_SD, prediction = whole.means(recon_S, kl_SD, prediction)
        recon = recon_S.mean()
        kl = clamp_free_bits(kl_SD, self.free_bits, config.free_bits_mode) if self.uses_decoder else zero
        bound = recon + self.beta * kl
        w_recon, w_prediction, penalty = self._weights(zero)
        own, sets, labels = w_recon * bound + w_prediction * prediction + penalty, batch.share_of_sets, batch.share_of_labels
        loss = own if sets == labels == 1 else w_recon * bound * sets + w_prediction * prediction * labels + penalty
        raw = kl_SD.detach().sum(dim=1).mean()
        values = dict(zip(STEP_SCALARS, (own, recon, raw, kl, prediction, -(recon + raw), w_recon, w_prediction), strict=True))
        return loss, torch.stack([values[name].detach().float() for name in self.scalars]), logit

    @property
    def scalars(self) -> tuple[str, ...]:
        """The `STEP_SCALARS` that exist here: terms of the stage; and no ELBO with the Chamfer loss, which bounds nothing."""
        gone: set[str] = {"elbo"} if self.config.model.decoder == "chamfer" else set()
        if not self.uses_decoder:
            gone |= {"recon", "kl", "kl_loss", "elbo", "weight_recon"}
        if not self.uses_classifier:
            gone |= {"prediction", "weight_prediction"}
        return tuple(name for name in STEP_SCALARS if name not in gone)

    def _weights(self, zero: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of the two terms and what they cost: fixed, or exp(-s) with penalty s / 2 each (Kendall et al. 2018).

        Only terms of the stage cost anything: s of another would fall for ever.
        """
        fixed = zero + self.config.loss.recon_weight, zero + self.config.loss.prediction_weight
        if self.log_variance is None:
            return *fixed, zero
        s = full(self.log_variance).clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
        recon, prediction = s[0] * self.uses_decoder, s[1] * self.uses_classifier
        return fixed[0] * (-recon).exp(), fixed[1] * (-prediction).exp(), 0.5 * (recon + prediction)

    @property
    def uses_sequence(self) -> bool:
        """Pretraining is on sets alone."""
        return self.config.trainer.stage != "pretrain"

    @property
    def uses_decoder(self) -> bool:
        """Fine-tuning trains the classifier alone."""
        return self.config.trainer.stage != "finetune"

    @property
    def uses_classifier(self) -> bool:
        """Pretraining has no outcome."""
        return self.config.trainer.stage != "pretrain"

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of one batch, with its parts for the run's log."""
        if self.log_variance is not None:  # brought back to its bounds, where a gradient inwards still moves it
            self.log_variance.data.clamp_(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
        encoded = self.net.encode(batch, sample=self.uses_decoder)
        if batch.whole is not None:
            draw_apart(self.global_rank)
        self.posterior = Gaussian(encoded.posterior.mu.detach(), encoded.posterior.logvar.detach())
        self.prior = Gaussian(encoded.prior.mu.detach(), encoded.prior.logvar.detach())
        loss, parts, _ = self.objective(batch, encoded)
        return {"loss": loss, "parts": parts}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Bound on sampled latents (so that it is a bound), outcome on their means (so that it is the best guess)."""
        _, parts, _ = self.objective(batch, self.net.encode(batch, sample=True))
        named = dict(zip(self.scalars, parts, strict=True))
        known, score, label = ~batch.label.isnan(), parts.new_zeros(0), batch.row.new_zeros(0)
        if self.uses_classifier and (self.part.world > 1 or known.any()):  # several processes make the same steps
            logit = self.net.classify(self.net.states(self.net.encode(batch, sample=False).z, batch), batch)
            named["prediction"] = outcome_loss(logit, batch.label, self.config.loss, self.positive_weight)
            score, label = logit[known].float().sigmoid(), batch.label[known].long()
        sizes = parts.new_tensor([batch.sets, batch.stays, known.sum(), batch.label[known].sum()])
        sums = [named[name] * sizes[2 if name == "prediction" else 0] for name in TERMS if name in named]
        if self.part.counts(batch_idx):
            self._scored[self.part.number(batch_idx)] = Scored(torch.cat([torch.stack(sums), sizes]), score, label)

    def on_validation_epoch_end(self) -> None:
        """Close the validation."""
        self.close_validation()

    def close_validation(self) -> None:
        """Totals of the split into `validation`: means over sets, and of the prediction over labelled stays.

        None is what does not exist: AUROC and AUPRC with one class, terms of another stage, a prediction without a label.
        """
        rows, self._scored = self.part.gathered(self._scored), {}
        *sums, sets, stays, known, positive = torch.stack([row.sums for row in rows]).sum(0).tolist()
        scores: dict[str, float | None] = {}
        if self.uses_classifier:
            score, label = torch.cat([row.score for row in rows]), torch.cat([row.label for row in rows])
            for name, measure in MEASURES.items():
                there = known if name == "accuracy" else 0 < positive < known
                scores[name] = float(measure(score, label)) if there else None
        self.validation = {
            **scores,
            **self._means(dict(zip([name for name in TERMS if name in self.scalars], sums, strict=True)), sets, known),
            "positives": positive / known if known else None,
            "labelled": known,
            "stays": stays,
        }

    def _means(self, sums: dict[str, float], sets: float, labelled: float) -> dict[str, float | None]:
        """Means of the terms, and the loss and the bound that follow from them."""
        sizes = {name: labelled if name == "prediction" else sets for name in sums}
        means: dict[str, float | None] = dict.fromkeys(("loss", *TERMS, "elbo"))
        means |= {name: value / sizes[name] for name, value in sums.items() if sizes[name]}
        recon, raw, kl, prediction = (means[name] for name in TERMS)
        w_recon, w_prediction, penalty = (float(x) for x in self._weights(torch.zeros(())))
        loss: list[float] = []
        if recon is not None and kl is not None:
            loss.append(w_recon * (recon + self.beta * kl))
        if prediction is not None:
            loss.append(w_prediction * prediction)
        if recon is not None and raw is not None and "elbo" in self.scalars:
            means["elbo"] = -(recon + raw)
        return means | {"loss": sum(loss) + penalty if loss else None}

    def configure_model(self) -> None:
        """In shards, where the strategy is FSDP."""
        if self.device_mesh is not None:
            shard(self, self.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        """Frozen features of fine-tuning come from a network in eval mode, without dropout."""
        if self.config.trainer.stage == "finetune":
            for part in (self.net.encoder, self.net.sequence):
                part.eval()

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip, and keep the norm that clipping computed anyway."""
        limit = self.config.optim.gradient_clip_val or math.inf
        owned = [p for group in optimizer.param_groups for p in group["params"]]
        self.grad_norm = full(nn.utils.clip_grad_norm_(owned, limit))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; weight decay on matrices only; linear warm-up, then constant or cosine to 1 %."""
        optim = self.config.optim
        trainable = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # with a scaler gradients are unscaled, then clipped, then used
        scaled = self._trainer is not None and self._trainer.precision == "16-mixed"
        optimizer = torch.optim.AdamW(groups, lr=optim.learning_rate, betas=(0.9, 0.98), fused=not scaled)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor(optim, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lr_factor(optim: OptimConfig, total_steps: int) -> Callable[[int], float]:
    """Learning rate of an optimizer step as a share of the peak."""

    def factor(step: int) -> float:
        rise = min((step + 1) / optim.lr_warmup_steps, 1.0) if optim.lr_warmup_steps else 1.0
        if optim.lr_schedule == "constant":
            return rise
        after = (step - optim.lr_warmup_steps) / max(total_steps - optim.lr_warmup_steps, 1)
        return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(max(after, 0.0), 1.0))))

    return factor


def freeze(module: SeqSetVAEModule) -> None:
    """Leave trainable only what the stage trains, so that no trainable parameter is without a gradient.

    `freeze_ratio` freezes that share of the set encoder's parts, from the input side: embedding, blocks, pools, heads.
    """
    net, stage = module.net, module.config.trainer.stage
    idle: list[nn.Module] = []
    if stage == "pretrain":
        idle = [net.sequence, net.classifier]
    elif stage == "finetune":
        idle = [net.encoder, net.sequence, *([net.to_decoder] if net.to_decoder else []), net.decoder]  # type: ignore[list-item]
    encoder = net.encoder
    parts = [encoder.embed, *encoder.blocks, *encoder.pools, *encoder.priors, *encoder.posteriors]
    idle += parts[: round(module.config.trainer.freeze_ratio * len(parts))]
    for part in idle:
        part.requires_grad_(False)
