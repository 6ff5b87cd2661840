"""Where the scalars of a log belong in a run: which row, under which name of the catalogue, or under their own."""

import re

from backend.tensorboard_tags import DROPPED, HELD_OUT, TABLE, Tags
from shared.drawing import Role

Place = tuple[Role, str]
"""A kind of row and a name in it."""

MORE: dict[str, tuple[str, ...]] = {
    "auroc": ("auroc", "auc", "roc_auc", "auc_roc", "rocauc"),
    "auprc": ("auprc", "aupr", "pr_auc", "auc_pr", "prauc", "average_precision", "avg_precision", "ap"),
    "accuracy": ("accuracy", "acc"),
    "prediction": ("prediction", "prediction_loss", "pred_loss", "pred", "loss_prediction", "loss_pred", "cls_loss", "focal_loss",
                   "classification_loss", "ce_loss", "bce_loss"),
    "elbo": ("elbo",),
    "active_ratio": ("active_ratio", "active_units_ratio", "active_unit_ratio", "au_ratio", "active_fraction"),
    "weight_recon": ("weight_recon", "recon_weight", "weight_reconstruction"),
    "weight_prediction": ("weight_prediction", "pred_weight", "prediction_weight"),
    "decoder_reliance": ("decoder_reliance",),
    "mi_gauss": ("mi_gauss",),
    "step_s": ("step_s", "step_time", "time_per_step", "iter_time"),
    "epoch": ("epoch",),
}  # fmt: skip
"""What a run has charts for, besides what can be judged (`backend.tensorboard_tags.TABLE`)."""
OUTCOMES = frozenset({"auroc", "auprc", "accuracy"})
"""Figures that nobody logs of training batches without saying so."""
POSTERIOR = frozenset({"active_units", "active_ratio", "posterior_variance", "mi_gauss", "decoder_reliance"})
"""Figures that are an evaluation of the posterior where they are held out."""
APART = frozenset({"hparam", "hparams", "hp"})
"""Copies that hyperparameter plugins make of a last value."""


def places(tags: Tags) -> dict[Place, str]:
    """Each tag's place. Held-out KL and reconstruction have two: they are parts of a loss, and they evaluate the posterior."""
    found: dict[Place, str] = {}
    for name, tag in tags.used.items():
        role: Role = "validation" if name.startswith("val_") else "training"
        found[_place_of_ratio(tag) or (role, name.removeprefix("val_"))] = tag
    for tag in tags.unused:
        place = place_of(tag)
        own: Place = ("validation" if _is_held_out(tag) else "training", tag)
        found[own if place is None or place in found else place] = tag
    for name in ("kl", "recon"):
        if ("validation", name) in found:
            found.setdefault(("probe", name), found["validation", name])
    return found


def place_of(tag: str) -> Place | None:
    """Where a tag belongs by its name alone, None where it is not known."""
    words = _words(tag)
    if not APART.isdisjoint(words):
        return None
    held_out, plain = _is_held_out(tag), [word for word in words if word not in HELD_OUT]
    last = [word for word in _words(tag.rpartition("/")[2]) if word not in HELD_OUT]
    for kept in (plain, [w for w in plain if w not in DROPPED], last, [w for w in last if w not in DROPPED]):
        name = _named("_".join(kept), held_out)
        if name is None:
            continue
        if held_out:
            return ("probe" if name in POSTERIOR else "validation"), name
        return ("validation" if name in OUTCOMES and "train" not in words and "training" not in words else "training"), name
    return None


def _named(plain: str, held_out: bool) -> str | None:
    name = next((name for name, known in MORE.items() if plain in known), None)
    if name is None and held_out:
        name = next((name for name in sorted(POSTERIOR & TABLE.keys()) if plain in TABLE[name]), None)
    return name


def _place_of_ratio(tag: str) -> Place | None:
    place = place_of(tag)
    return place if place is not None and place[1] == "active_ratio" else None


def _is_held_out(tag: str) -> bool:
    return not HELD_OUT.isdisjoint(_words(tag))


def _words(tag: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", tag.lower()) if word]
