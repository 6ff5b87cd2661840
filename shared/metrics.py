"""The catalogue of everything measured: name, unit and meaning. Writers use these names, charts these words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One measured quantity, as a person reads it."""

    label: str
    unit: str
    help: str


TRAINING: dict[str, Metric] = {
    "loss": Metric("Total loss", "weighted nats", "What the optimizer minimises: reconstruction + beta * KL + prediction."),
    "recon": Metric("Reconstruction loss", "nats / set", "Negative log likelihood of a set given its latent (or Chamfer)."),
    "kl": Metric(
        "KL divergence", "nats / set", "KL from posterior to prior, unclamped and unweighted, mean over sets, all levels."
    ),
    "kl_loss": Metric("KL in the loss", "nats / set", "The KL after free bits, before beta. A floor hides collapse here."),
    "prediction": Metric("Prediction loss", "nats", "Outcome loss: cross-entropy or focal, over labelled stays."),
    "elbo": Metric("ELBO", "nats / set", "-(reconstruction + KL), with the unclamped KL: a lower bound on log p(set)."),
    "beta": Metric("Beta", "", "Weight of the KL term; rises from 0 to its maximum during warm-up."),
    "lr": Metric("Learning rate", "", "Learning rate of the first parameter group."),
    "grad_norm": Metric("Gradient norm", "", "Global L2 norm before clipping."),
    "weight_recon": Metric("Weight of reconstruction", "", "Weight of the reconstruction term in the loss."),
    "weight_prediction": Metric("Weight of prediction", "", "Weight of the prediction term in the loss."),
    "time": Metric("Time", "s", "When the step ended, in seconds since 1970 (UTC)."),
    "step_s": Metric("Step time", "s", "Wall-clock time of one optimizer step, loading included."),
    "wait_s": Metric("Loader wait", "s", "Of the step time: how long the step waited for its batches, all of them together."),
    "wait_share": Metric(
        "Loader wait",
        "share",
        "Share of the step time that the step waited for its batches. Over 2 % the loader holds training up: more num_workers, or "
        "without any the share that making batches takes.",
    ),
    "stays": Metric("Stays", "stays / step", "Stays in the step, over all accumulated batches."),
    "stays_per_s": Metric("Throughput", "stays / s", "Stays trained on in a second of the step, loading included."),
    "sets": Metric("Sets", "sets / step", "Observed sets in the step: the sample size of the posterior figures."),
    "kl_max_dim": Metric("Largest KL of a dimension", "nats", "KL of the most informative latent dimension."),
    "posterior_variance": Metric(
        "Posterior variance",
        "",
        "Mean of the posterior's variance over its prior's. Near 1 in every dimension means collapse, small means informative.",
    ),
    "active_units": Metric(
        "Active units",
        "units",
        "Latent dimensions with Var(mu) > 0.01, relative to the prior, over the last window of steps (Burda et al. 2016); "
        "empty below 32 stays.",
    ),
    "active_ratio": Metric("Active units", "share", "Active units over all latent dimensions."),
    "active_ratio_variance": Metric(
        "Variance 'activity'",
        "share",
        "Share of dimensions with mean variance > 0.01, the older rule. Reads 1 at total collapse: recorded, never an alarm.",
    ),
    "mi_gauss": Metric(
        "Information bound",
        "nats / set",
        "Sum over dimensions of 1/2 [log(Var mu + E s2) - E log s2], relative to the prior: an upper bound on I(x; z), at most "
        "the KL. Near 0 proves collapse.",
    ),
}

PROBE: dict[str, Metric] = {
    "kl": TRAINING["kl"],
    "mi_gauss": TRAINING["mi_gauss"],
    "prior_gap": Metric(
        "Prior gap", "nats / set", "The part of the KL that is no information: KL = information bound + prior gap, exactly."
    ),
    "mi_mc": Metric(
        "Information, Monte Carlo",
        "nats / set",
        "I(x; z) by sampling (He et al. 2019), 0 at collapse but for noise. It cannot exceed the logarithm of its sample size: "
        "near 6.2 nats (512 latents) it reads the cap, not the information.",
    ),
    "mi_mc_samples": Metric("Samples of the Monte Carlo information", "sets", "Its logarithm is the most it can read."),
    "eps_delta": Metric(
        "Collapsed dimensions",
        "share",
        "Share of dimensions whose KL is below 0.01 nats for at least 99 % of the sets (Lucas et al. 2019).",
    ),
    "active_units": Metric(
        "Active units", "units", "Latent dimensions with Var(mu) > 0.01, relative to the prior, on the probe set."
    ),
    "active_ratio": TRAINING["active_ratio"],
    "active_ratio_variance": TRAINING["active_ratio_variance"],
    "posterior_variance": TRAINING["posterior_variance"],
    "recon": TRAINING["recon"],
    "decoder_reliance": Metric(
        "Decoder reliance",
        "relative",
        "How much worse the reconstruction gets when latents are swapped between patients. 0: the decoder ignores them.",
    ),
    "explained": Metric(
        "Explained variance", "share", "Share of the variance of the observed values that the reconstruction explains."
    ),
    "residual_eigenvalue": Metric(
        "Largest residual eigenvalue",
        "",
        "Of the covariance of what the reconstruction leaves over, in standard deviations of the decoder. A linear VAE stays "
        "collapsed only while this is at most beta; above it a latent gains by coming alive.",
    ),
    "beta": TRAINING["beta"],
    "var_between": Metric(
        "Variance between patients", "", "Mean over dimensions of Var over patients of the mean mu, relative to the prior."
    ),
    "var_within": Metric(
        "Variance within patients", "", "Mean over dimensions of the variance of mu over one stay, relative to the prior."
    ),
    "patients": Metric("Probe patients", "stays", "Sample size of the probe."),
    "decoded_patients": Metric(
        "Decoded probe patients", "stays", "Whose whole stays are also decoded, for what comes after the latent."
    ),
    "probe_from_train": Metric("Probe patients from training", "stays", "Where validation has fewer than 32 stays."),
    "sets": TRAINING["sets"],
    "effective_sets": Metric(
        "Independent sets", "sets", "Sets of one patient resemble each other: so many independent ones would be worth as much."
    ),
    "latent_dims": Metric("Latent dimensions", "units", "Number of latent dimensions, over all levels."),
    "probe_s": Metric("Probe time", "s", "Wall-clock time of the probe evaluation."),
}

for _level in range(1, 5):  # of models with several levels
    PROBE[f"active_ratio_level_{_level}"] = Metric(f"Active units of level {_level}", "share", TRAINING["active_ratio"].help)
    PROBE[f"mi_gauss_level_{_level}"] = Metric(
        f"Information of level {_level}", "nats / set", "What it adds to the levels before."
    )
    for _name in ("var_between", "var_within"):
        PROBE[f"{_name}_level_{_level}"] = Metric(f"{PROBE[_name].label}, level {_level}", "", PROBE[_name].help)

VALIDATION: dict[str, Metric] = {
    "auroc": Metric("AUROC", "", "Area under the ROC curve. 0.5 is chance, 0.7 to 0.8 good, over 0.9 excellent."),
    "auprc": Metric("AUPRC", "", "Area under the precision-recall curve. Chance is the share of positives."),
    "accuracy": Metric("Accuracy", "share", "Share of stays classified right at 0.5; compare with the majority share."),
    "positives": Metric("Share of positives", "share", "Share of labelled validation stays with the outcome."),
    "loss": TRAINING["loss"],
    "recon": TRAINING["recon"],
    "kl": TRAINING["kl"],
    "prediction": TRAINING["prediction"],
    "elbo": TRAINING["elbo"],
    "stays": Metric("Validation stays", "stays", "Stays evaluated."),
    "labelled": Metric("Labelled stays", "stays", "Stays with a known outcome: the sample size of AUROC."),
}
