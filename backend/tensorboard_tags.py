"""Which scalar is which: from the names that people give to what they log, to the names of a run's own rows."""

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import InputError

TABLE: dict[str, tuple[str, ...]] = {
    "kl": (
        "kl", "kld", "dkl", "kl_raw", "raw_kl", "kl_unweighted", "unweighted_kl", "kl_unclamped", "kl_total", "total_kl", "kl_mean",
        "kl_div", "kl_divergence", "kl_z", "kl_term", "kl_loss", "kld_loss", "loss_kl", "loss_kld", "loss_kl_divergence",
        "kl_divergence_loss", "kl_div_loss", "kldiv", "kldivergence", "klloss", "latent_loss", "rate",
    ),
    "recon": (
        "recon", "recon_loss", "loss_recon", "reconstruction", "reconstruction_loss", "loss_reconstruction", "reconstruction_error",
        "recon_error", "rec", "rec_loss", "loss_rec", "recons", "recons_loss", "nll", "nll_loss", "distortion", "reconloss",
        "reconstructionloss",
    ),
    "loss": ("loss", "total_loss", "loss_total", "objective", "neg_elbo", "negative_elbo", "elbo_loss", "vae_loss", "totalloss"),
    "beta": ("beta", "kl_weight", "weight_kl", "kl_beta", "kl_coeff", "kl_coef", "kl_annealing", "kl_scale", "klweight"),
    "lr": ("lr", "learning_rate", "lr_adam", "lr_adamw", "lr_sgd", "learningrate"),
    "grad_norm": ("grad_norm", "gradient_norm", "grad_norm_total", "total_grad_norm", "grad_2_norm_total", "grad_2_0_norm_total",
                  "gradnorm", "global_grad_norm"),
    "active_units": ("active_units", "active_unit", "au", "num_active_units", "n_active_units", "active_dims", "active_dimensions",
                     "active_ratio", "active_units_ratio", "active_unit_ratio"),
    "posterior_variance": ("posterior_variance", "posterior_var", "mean_variance", "z_var", "z_variance", "latent_variance", "variance",
                           "sigma2", "mean_sigma2"),
    "mu_variance": ("mu_variance", "mu_var", "var_mu", "mean_mu_variance"),
    "logvar": ("logvar", "log_var", "mean_logvar", "logvar_mean", "z_logvar"),
}  # fmt: skip
"""Name of a run's rows to the tags that stand for it, the least doubtful first; compared without case, separators, split and pace."""
HELD_OUT = frozenset({"val", "valid", "validation", "eval", "test", "dev", "heldout"})
DROPPED = frozenset({
    "train", "training", "metrics", "metric", "losses", "scalars", "vae", "model", "step", "epoch", "batch", "iter", "avg", "log",
})  # fmt: skip
"""Words that say where or how often, not what. Some are names by themselves only together with others (`vae_loss`)."""
CHANGED = frozenset({"weighted", "scaled", "beta", "dim", "dims", "per", "free", "clamped", "ratio"})
"""Words that make another figure of it: with one of these before it, the last part of a path is not the name alone."""
FROM_VALIDATION = ("loss", "recon", "kl")
NAMES = (*TABLE, *(f"val_{name}" for name in FROM_VALIDATION))


@dataclass(frozen=True)
class Tags:
    """What is read as what, and what is not used."""

    used: Mapping[str, str]
    """Name to tag."""
    unused: tuple[str, ...]


def add_tag_options(parser: argparse.ArgumentParser) -> None:
    """What a reader of TensorBoard logs may say of their tags."""
    parser.add_argument(
        "--tag", action="append", default=[], metavar="NAME=TAG",
        help=f"TensorBoard: read TAG as NAME, one of {', '.join(NAMES)}; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--kl_mean_over", type=int, metavar="D", help="TensorBoard: the logged KL is a mean over D latent dimensions (1: a sum)"
    )


def name_of(tag: str) -> tuple[str, int] | None:
    """What a tag stands for and how doubtful it is, 0 the least; None where the table does not know it."""
    parts = [re.split(r"[^a-z0-9]+", part) for part in tag.lower().split("/")]
    words, last = ([word for part in some for word in part if word] for some in (parts, parts[-1:]))
    held_out = any(word in HELD_OUT for word in words)
    tries = [words, _without_dropped(words)]
    if CHANGED.isdisjoint(word for part in parts[:-1] for word in part):
        tries += [last, _without_dropped(last)]
    for kept in ([word for word in some if word not in HELD_OUT] for some in tries):
        plain = "_".join(kept)
        for name, known in TABLE.items():
            if plain in known and (not held_out or name in FROM_VALIDATION):
                return (f"val_{name}" if held_out else name), known.index(plain)
    return None


def _without_dropped(words: Sequence[str]) -> list[str]:
    """`log` stays where it belongs to a variance: `log_var`."""
    return [word for at, word in enumerate(words) if word not in DROPPED or words[at : at + 2] == ["log", "var"]]


def read_tags(counts: Mapping[str, int], given: Mapping[str, str] | None = None) -> Tags:
    """Choose a tag for each name, from tags with their numbers of values; `given` (name to tag) comes first.

    Of several tags for one name the least doubtful is taken, then the one with more values.

    Raises:
        InputError: a given name or tag that there is not.
    """
    used = dict(given or {})
    for name, tag in used.items():
        if name not in NAMES:
            raise InputError(f"--tag {name}={tag}: no such name; {_nearest(name, NAMES)}")
        if tag not in counts:
            raise InputError(f"--tag {name}={tag}: no such tag in this log; {_nearest(tag, sorted(counts))}")
    candidates: dict[str, list[tuple[int, int, str]]] = {}
    for tag, count in counts.items():
        found = name_of(tag)
        if found is not None and tag not in used.values():
            candidates.setdefault(found[0], []).append((found[1], -count, tag))
    for name, tags in candidates.items():
        used.setdefault(name, min(tags)[2])
    return Tags(dict(sorted(used.items())), tuple(sorted(set(counts) - set(used.values()))))


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known[:30])}"
