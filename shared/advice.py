"""From what was found to its likely cause in words, and to what helps: remedies of `shared.remedies`, best first."""

from dataclasses import dataclass, replace

from shared.collapse import Verdict


@dataclass(frozen=True)
class Advice:
    """What is said beside a finding."""

    cause: str
    advice: str
    remedies: tuple[str, ...] = ()


RATE = "Lower the learning rate, keep gradient clipping on, use 32-bit precision, and check the data for wild values."
BETA = ("beta_cut", "free_bits", "pi_control", "cyclical_beta")
"""Remedies in the order of what they recovered in `tests/benchmarks/remedies`; so below."""

BY_CAUSE: dict[str, Advice] = {
    "beta_raised": Advice(
        "Beta has risen beyond its plan, or beyond where latents were last alive.",
        "Take beta back to where units were active, or hold the KL at a target.", ("beta_cut", "free_bits", "pi_control"),
    ),
    "beta_too_high": Advice(
        "Beta times the decoder's variance exceeds all that the residuals still hold: a latent costs more than it gains.",
        "Lower beta_max, hold the KL at a target, or let the decoder's variance be learned.",
        ("beta_cut", "free_bits", "pi_control", "learned_variance"),
    ),
    "recovering": Advice(
        "Beta was cut, and the latents carry more again since: a recovery.",
        "Wait for the next evaluations; what is applied works.",
    ),
    "decoder_bypass": Advice(
        "The decoder explains the data without the latents: it has a path around them (skip or autoregressive inputs).",
        "Remove or weaken that path (dropout on it, a smaller decoder), or lower beta until latents add to it.",
        ("beta_cut", "free_bits", "pi_control"),
    ),
    "unknown": Advice("", "Lower beta_max, lengthen beta_warmup_steps, or hold the KL at a target; then check active units again.", BETA),
    "encoder_lags": Advice(
        "The latents would gain by coming alive, and do not: the encoder lags behind the decoder.",
        "Train the encoder harder for a while, lengthen beta_warmup_steps, and check that its gradients are not zero.",
        ("aggressive_encoder", "beta_cut", "free_bits", "cyclical_beta"),
    ),
    "shifted_mean": Advice(
        "The posterior's mean is off the prior's by the same amount for every input.",
        "Check that the prior in the loss is the model's prior; a floor on the whole KL (free_bits_mode set) invites this too.",
        ("beta_cut", "free_bits", "pi_control"),
    ),
    "dead_level": Advice(
        "The other levels carry all there is to say at this beta.", "Train with fewer levels, or keep this one alive.",
        ("beta_cut", "free_bits"),
    ),
    "units_starved": Advice(
        "Units were starved one by one: weights of their KL, their gradients or their inputs have changed.",
        "Look at the named dimensions: per-dimension weights, masks, frozen parameters; then lower beta.",
        ("beta_cut", "free_bits"),
    ),
    "static_latents": Advice(
        "The encoder sees no change in time, or a smoothness term forbids it.",
        "Check that the encoder sees the values of its own time step; lower penalties on change.", ("beta_cut",),
    ),
    "diverged": Advice("The optimisation diverged, or a value in the data is not a number.", RATE),
    "spikes": Advice("Steps too large for this loss, or batches with wild values.", RATE),
    "too_little_data": Advice(
        "The model learns its training patients by heart.", "Stop at the best checkpoint, regularise (dropout, weight_decay), or shrink it."
    ),
    "not_learning": Advice(
        "Steps too small, a frozen or dead decoder, or targets that it cannot see.",
        "Raise the learning rate; check that the decoder's parameters get gradients and that its output is not clipped.",
    ),
}  # fmt: skip
BY_KIND: dict[str, Advice] = {
    "kl_explosion": Advice(
        "Steps too large, inputs in other units than before, or next to no weight on the KL.",
        "Raise beta, lower the learning rate, or check values and their normalisation.",
    )
}


BETA_AT_LIMIT = "The residuals hold hardly more than beta times the decoder's variance: a latent that came alive would carry next to nothing."
BETA_TO_COME = (
    "The largest beta still to come, times the decoder's variance, is about all that the residuals hold: latents that came alive "
    "would be lost again."
)


def advised(verdict: Verdict) -> Verdict:
    """The verdict with its cause in words, what to do, and remedies; what is only watched needs none yet."""
    found = BY_CAUSE.get(verdict.cause) or BY_KIND.get(verdict.kind)
    if found is None or verdict.advice or verdict.severity == "info":
        return verdict
    cause = _beta_in_words(verdict) or found.cause
    detail = f"{verdict.detail} {cause}".rstrip()
    return replace(verdict, detail=detail, advice=found.advice, remedies=found.remedies)


def _beta_in_words(verdict: Verdict) -> str | None:
    """What is said of a beta too high has to follow from the evidence beside it: from beta in force, nearly so, or one to come."""
    beta, residual = verdict.evidence.get("beta"), verdict.evidence.get("residual_eigenvalue")
    if verdict.cause != "beta_too_high" or residual is None or (beta is not None and residual <= beta):
        return None
    near = beta is not None and residual <= verdict.thresholds.get("stable_margin", 1.0) * beta
    return BETA_AT_LIMIT if near else BETA_TO_COME
