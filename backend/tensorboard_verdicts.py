"""What scalars that somebody logged allow to be said of a posterior, by the detector that also judges runs.

A logged KL bounds the information from above, so one near 0 proves collapse. One that looks healthy proves nothing: it may be
clamped by free bits, weighted by beta, or a constant shift. What needs (mu, logvar) or reconstructions is listed as not judged.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from backend.tensorboard_logs import ScalarLog
from backend.tensorboard_rows import merged
from backend.tensorboard_scalars import RECORD, Scalars
from backend.tensorboard_tags import Tags
from shared.collapse import SEVERITIES, Thresholds, Verdict
from shared.detector import Detector, replay
from shared.verdicts import BACKGROUND

Row = dict[str, Any]
Heard = Callable[[int, Detector], None]
"""Hears of a step, and the detector after it."""
WINDOWS = 60
"""Evaluations that a log without held-out figures is cut into."""
LARGEST_LATENT = 1024
"""Below the limit over so many dimensions a KL is near 0 even as a mean over them."""
EVALUATED = ("kl", "recon", "beta")
STEPWISE = ("loss", "recon", "kl", "beta", "lr", "grad_norm")
NEEDS_DIMENSIONS = "needs mu and logvar of every dimension: watch the run with PosteriorMetricsMonitor"
NOTHING_SERIOUS = Verdict(
    "insufficient", "info", "Scalars alone do not show a healthy posterior",
    "Nothing that they can show stands against it, but a logged KL may be clamped by free bits or weighted by beta: that it looks "
    "healthy proves nothing.",
)  # fmt: skip


def judge_scalars(
    log: ScalarLog, tags: Tags, limits: Thresholds, mean_over: int | None, heard: Heard = lambda step, detector: None
) -> Detector:
    """The detector after all rows that the log gives. `mean_over`: dimensions that the logged KL is a mean over, 1 for a sum.

    `heard` is told, in the order of the steps, wherever something may have begun, changed or ended.
    """
    series = {name: log.scalars[tag] for name, tag in tags.used.items()}
    if by_total_loss(tags):
        series |= {"recon": series["loss"], "val_recon": series["val_loss"]}
    # How many latents a logged mean was taken over is not known; that it is too few cannot be judged here.
    detector = Detector(plan_of(series.get("beta")), replace(limits, minimum_patients=0), log.last_step)
    return replay(
        detector,
        _listened(training_rows(series), detector, heard, lambda: detector.stepwise),
        _listened(evaluation_rows(series, mean_over), detector, heard, object),
    )


def _listened(rows: Iterator[Row], detector: Detector, heard: Heard, token: Callable[[], object]) -> Iterator[Row]:
    """The rows; each time the next is asked for, the one before has been judged."""
    for row in rows:
        before = token()
        yield row
        if token() != before:
            heard(int(row["step"]), detector)


def by_total_loss(tags: Tags) -> bool:
    """Whether held-out and training can be compared by their total losses alone."""
    return "val_recon" not in tags.used and {"loss", "val_loss"} <= set(tags.used)


def verdicts_of(detector: Detector, log: ScalarLog, tags: Tags, mean_over: int | None) -> list[Verdict]:
    """What holds, the most serious first: at least one, and never "healthy"."""
    found = [in_words(v, tags, mean_over, detector.limits) for v in detector.verdicts if v.kind not in BACKGROUND]
    if not any(verdict.severity in ("alarm", "warning") for verdict in found):
        found.append(NOTHING_SERIOUS if "kl" in tags.used or "val_kl" in tags.used else _without_kl(log, tags))
    return sorted(found, key=lambda verdict: (SEVERITIES.index(verdict.severity), verdict.began or 0))


def _without_kl(log: ScalarLog, tags: Tags) -> Verdict:
    known = ", ".join(tags.unused[:12]) or "none"
    return Verdict(
        "insufficient", "info", "No KL found",
        f"None of {len(log.scalars)} tags is known as a KL; name it with --tag kl=TAG. Tags that are not used: {known}.",
    )  # fmt: skip


def in_words(verdict: Verdict, tags: Tags, mean_over: int | None, limits: Thresholds) -> Verdict:
    """The rules speak of units that nobody counted here; and a KL near 0 is proof only where it is known what it is a mean over."""
    verdict = replace(verdict, remedies=())
    if verdict.kind != "collapse":
        return verdict
    kl = verdict.evidence["kl"]
    tag = tags.used.get("val_kl") or tags.used.get("kl")
    detail = f"{tag} is {kl:.3g} nats: the latents cannot carry more than that."
    evidence = {"kl": kl} | ({"beta": verdict.evidence["beta"]} if "beta" in verdict.evidence else {})
    verdict = replace(verdict, detail=detail, evidence=evidence, thresholds={"kl": limits.information_nats})
    if mean_over is not None or kl < limits.information_nats / LARGEST_LATENT or verdict.severity != "alarm":
        return verdict
    doubt = (
        " That is as a sum over the latent dimensions; if it is a mean over D of them, say so with --kl_mean_over D (1: a sum)."
    )
    return replace(verdict, severity="warning", detail=detail + doubt)


def plan_of(beta: Scalars | None) -> dict[str, Any]:
    """As much of a run's configuration as a logged beta shows: a rise to its largest value, which the rules excuse."""
    kept = beta.whole() if beta else np.empty(0, RECORD)
    kept = kept[np.isfinite(kept["value"])]
    values = kept["value"]
    if not len(values) or (values[1:] < 0.9 * values[:-1]).any():
        return {}
    largest = float(values.max())
    risen = int(kept["step"][np.argmax(values >= 0.999 * largest)])
    rises = values.min() < 0.999 * largest
    return {"loss": {"beta_schedule": "linear", "beta_max": largest, "beta_warmup_steps": risen if rises else 0}}


def training_rows(series: Mapping[str, Scalars]) -> Iterator[Row]:
    """Lines of a step log, in step order, with the names of what was NaN or infinite."""
    for table in merged({name: series[name] for name in STEPWISE if name in series}):
        for step, _, row in table.rows():
            yield {"step": step, **row, "nonfinite": [name for name, value in row.items() if not math.isfinite(value)]}


def evaluation_rows(series: Mapping[str, Scalars], mean_over: int | None) -> Iterator[Row]:
    """Rows as of a probe: at held-out evaluations where there are three or more, else of windows of the training.

    The information is bounded by the KL. Held-out figures come first; training figures are means since the row before.
    """
    curves = {name: Curve(series.get(name)) for name in (*EVALUATED, *(f"val_{name}" for name in EVALUATED))}
    scale = float(mean_over or 1)
    before = -1
    for step in evaluation_steps(series):
        own = {name: curves[f"val_{name}"].mean(step - 1, step) for name in EVALUATED}
        kl, recon, beta = (curves[n].mean(before, step) if own[n] is None else own[n] for n in EVALUATED)
        before = step
        if kl is not None:
            row: Row = {"step": step, "kl": kl * scale, "mi_gauss": kl * scale, "recon": recon, "beta": beta}
            yield row | ({"latent_dims": mean_over} if scale > 1 else {})


def evaluation_steps(series: Mapping[str, Scalars]) -> list[int]:
    """Where a log is evaluated."""
    held_out = series.get("val_kl") or series.get("val_recon") or ()
    if len(held_out) >= 3:
        return list(held_out)
    training = np.array(list(series.get("kl", ())), np.int64)
    every = max(len(training) // WINDOWS, 1)
    return training[::-1][::every][::-1].tolist()


class Curve:
    """The finite values of one tag, for means over steps."""

    def __init__(self, scalars: Scalars | None) -> None:
        kept = scalars.whole() if scalars is not None else np.empty(0, RECORD)
        kept = kept[np.isfinite(kept["value"])]
        self._steps, self._values = kept["step"], kept["value"]

    def mean(self, after: int, to: int) -> float | None:
        """Mean over steps in (after, to]; None where there are none."""
        first, last = np.searchsorted(self._steps, [after, to], side="right")
        return float(self._values[first:last].mean()) if last > first else None


def unjudged(tags: Tags, mean_over: int | None) -> list[tuple[str, str]]:
    """(what, why) of all that these scalars leave open."""
    found = [
        ("active units, partial collapse, constant shift", NEEDS_DIMENSIONS),
        ("a decoder that ignores its latents", "needs reconstructions from latents swapped between patients"),
        ("the likely cause, and a forecast", "need the decoder's residuals and the latents of a probe set"),
    ]
    if not mean_over or mean_over == 1:
        found.append(
            ("KL explosion", "the number of latent dimensions is not known (--kl_mean_over D, if the KL is a mean over D)")
        )
    if "kl" not in tags.used and "val_kl" not in tags.used:
        found.append(("collapse, stagnation, overfitting", "no KL was found"))
    elif "val_recon" not in tags.used and not by_total_loss(tags):
        found.append(("overfitting", "no held-out reconstruction loss was found"))
    if not {"loss", "recon", "grad_norm"} & set(tags.used):
        found.append(("instability", "no loss and no gradient norm was found"))
    return found


def floor_note(log: ScalarLog, tags: Tags) -> str | None:
    """What a KL that rests on its smallest value gives away."""
    tag = tags.used.get("kl")
    values = log.scalars[tag].whole()["value"] if tag else np.empty(0)
    values = values[np.isfinite(values)]
    lowest = float(values.min()) if len(values) else 0.0
    resting = int(np.isclose(values, lowest, rtol=1e-5, atol=0).sum())
    if lowest <= 0 or resting < max(10, 0.1 * len(values)):
        return None
    return f"{tag} rests on {lowest:.4g} in {resting:,} of {len(values):,} values: a floor (free bits) hides what the KL really is."
