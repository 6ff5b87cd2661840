"""What the Reconstruction page says: definitions beside the charts, the figures of a snapshot in brief, and what is missing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dashboard.formats import DASH, count, number
from dashboard.reconstruction.events import Events
from dashboard.reconstruction.presence import Presence
from dashboard.widgets import Html, banner, el, imported, is_imported
from shared.cadence import evaluated_every
from shared.reader import Health, RunStatus
from shared.reconstruction_stats import FEW, NORMAL, z_scores

HELP = {
    "ranking": "Each dot is a variable: the root of its mean squared error, divided by the variable's standard deviation over the training "
    "split. 1 is what always predicting the training mean costs, so a diamond to the right of the dashed line is worse than that.\n\n"
    f"Hollow and grey, below all others: fewer than {FEW} values, too few to be ranked. A number at the right edge: beyond the axis.\n\n"
    "Click a dot to add the variable to the charts below, or to take it out.",
    "over": "RMSE of each variable over its standard deviation, at every snapshot of the run. The dotted line is the median of all "
    "variables. A variable that stays at 1 carries nothing through the latent. The vertical line is the snapshot that is shown; "
    "click a point to look at that one.",
    "unit": "Median of |reconstructed - observed| in the variable's own unit; the band spans its quartiles.",
    "distribution": "Reconstructed minus observed, in standard deviations of each variable, over all values shown. The dashed line is the "
    "distribution that the decoder itself predicts: the mean of the normal densities with its standard deviations. Where the bars are "
    "wider than the line, it is too sure. Errors beyond 5 are counted in the outermost bars.",
    "time": "Median of |error| in standard deviations, with its quartiles, by hours since admission; the bars count the values. Early "
    f"sets have little before them. Hollow: fewer than {FEW} values.",
    "frequency": "Each dot is a variable: RMSE in standard deviations against how many of its values are in this snapshot (logarithmic). "
    "Rare variables are seldom trained on; if the dots rise to the left, that is why. Click a dot to add it to the charts.",
    "coverage": "Of each central interval of the predicted normal distribution, the share of observed values inside it. On the "
    "diagonal the uncertainty is right; below it the decoder is too sure, above it not sure enough.",
    "pit": "For each value, the predicted probability of a smaller one (probability integral transform), in twenty equal bins; 1 is what "
    "is due. Flat: calibrated. A U: too sure. A hill: not sure enough. Sloped: biased. The band is what chance allows 95 % of bins if "
    "values were independent; those of one patient are not.",
    "z": "(Observed - reconstructed) / predicted standard deviation. Where the uncertainty is right this is the standard normal, drawn "
    "dashed. Beyond 4 in the outermost bars.",
    "record": "Circles: what was measured. Diamonds: what the decoder makes of the patient's latents. Dark and light band: one and two "
    "predicted standard deviations; about 68 % and 95 % of the circles should lie inside. Only sets in the snapshot are shown, so a "
    "gap need not be a gap in the record. Drag over a chart to zoom into a time, in all rows at once.",
    "presence": "Shade: the probability that the decoder gave each variable of being measured in a set. Dot: it was. A dot on a pale "
    "field is a measurement that was not expected, a dark field without a dot one that was expected and not made. Empty columns: no set.",
    "reliability": "All pairs of set and variable, by predicted probability: how often the variable did occur. On the diagonal the "
    "probabilities are calibrated. Whiskers: 95 % interval, pairs taken as independent. The bars count the pairs (logarithmic).",
    "skill": "1 - Brier score / Brier score of always predicting the variable's own frequency in this snapshot. The Brier score is the mean "
    "of (probability - occurred)². 1: always certain and right. 0 or less (diamond): the latent adds nothing to knowing how often it is "
    "measured.",
}  # fmt: skip


def first_due(config: Mapping[str, Any], max_steps: int | None) -> str:
    """When the first snapshot of a run is to be expected, from its options and its length."""
    monitor = config.get("monitor")
    monitor = monitor if isinstance(monitor, dict) else {}
    if monitor.get("disable_metrics_monitoring"):
        return (
            "This run monitors nothing (--disable_metrics_monitoring), so it will never have one. Start it without that option."
        )
    steps = evaluated_every(monitor, max_steps)
    return f"The first is due after step {steps:,}, and every {steps:,} steps from there on; on a busy machine a little later."


def waiting(status: RunStatus) -> Html:
    """For a run without a snapshot: when there will be one, or how to make it."""
    if is_imported(status):
        return imported("No reconstruction", "no values that its decoder made")
    alive = status.health in (Health.CREATED, Health.RUNNING, Health.STALE)
    config = status.info.config if status.info else {}
    due = first_due(config, status.info.max_steps if status.info else None)
    how = due if alive else "It ended before one was due, or its monitor decodes nothing."
    return el(
        "section",
        el("h1", "No reconstruction yet"),
        el("p", "A snapshot of what the decoder makes of a fixed set of patients is written at every evaluation of the probe set. ", how),
        el("p", "It shows up here by itself." if alive else "A snapshot can be made from a checkpoint of the run at any time:"),
        cls="sv-landing", data_state="no-snapshot",
    )  # fmt: skip


def nothing_decoded() -> Html:
    """For a snapshot without a single event."""
    return el(
        "section",
        el("h1", "Nothing is decoded here"),
        el("p", "This snapshot holds no event. Of a model that is not SeqSetVAE, values are reconstructed only when its probe is told how: ",
           el("code", "VAEProbe(..., decode=...)"), "."),
        cls="sv-landing", data_state="nothing-decoded",
    )  # fmt: skip


def unreadable(problem: str) -> Html:
    """For a snapshot that cannot be read; others can still be chosen."""
    return el(
        "div",
        banner("alarm", "This snapshot cannot be read.", problem + ".", "Choose another snapshot above."),
        cls="sv-banners",
    )


def brief(events: Events, errors: pd.DataFrame, presence: Presence | None) -> Html:
    """The snapshot in a few figures."""
    frame = events.frame
    known = errors["rmse_std"].notna()
    enough = known & (errors["modelled"] >= FEW)
    rare = f", {int((known & ~enough).sum())} too rare" if (known & ~enough).any() else ""
    in_std, z = frame["error_in_std"].to_numpy(float), z_scores(frame)
    z = z[np.isfinite(z)]
    inside = f"{(np.abs(z) <= NORMAL.inv_cdf(0.975)).mean():.1%}" if len(z) else DASH
    skill = brier_skill(presence) if presence else float("nan")
    expected = f"{abs(skill):.1%}" if np.isfinite(skill) else DASH
    stats = [
        ("Values", count(len(frame)), f"of {frame['stay'].nunique():,} patients"),
        ("RMSE", number(float(np.sqrt(np.nanmean(in_std**2))) if known.any() else None, 3), "standard deviations"),
        (
            "Worse than the mean",
            count(int((errors.loc[enough, "rmse_std"] > 1).sum())),
            f"of {int(enough.sum())} variables{rare}",
        ),
        ("Inside 95 % interval", inside, "95 % is right" if len(z) else "no uncertainty predicted"),
        ("Presence", expected, f"{'worse' if skill < 0 else 'better'} than frequency" if presence else "not recorded"),
    ]
    parts = [el("div", el("dt", label), el("dd", value, el("small", " " + unit))) for label, value, unit in stats]
    return el("header", el("dl", *parts, cls="sv-stats"), cls="sv-head sv-brief")


def brier_skill(presence: Presence) -> float:
    """Of all pairs of set and variable: 1 - Brier score / that of each variable's own frequency; NaN where nothing varies."""
    truth = presence.occurred.astype(float)
    reference = float((truth.mean(axis=0) * (1 - truth.mean(axis=0))).mean()) if truth.size else 0.0
    return 1 - float(((presence.probability - truth) ** 2).mean()) / reference if reference else float("nan")


def notes(events: Events, errors: pd.DataFrame, problems: Sequence[str], decoder: str | None) -> Html:
    """What is not in the charts, and why."""
    found = [banner("warning", "Part of this snapshot cannot be read.", f"{problem}.") for problem in problems]
    bare = errors[errors["modelled"] == 0]
    if len(bare):
        names = ", ".join(f"{name} ({events:,} values)" for name, events in bare["events"].head(8).items())
        rest = f" and {len(bare) - 8} more" if len(bare) > 8 else ""
        found.append(
            banner("info", "Not reconstructed:", f"{names}{rest}. Such a variable never varies in the training split, or does not occur there: "
                   "a learned variance would run to its floor and fake likelihood. Whether it occurs is modelled, its value is not.")
        )  # fmt: skip
    if not events.has_std:
        whose = f"The {decoder} decoder" if decoder else "The decoder of this run"
        found.append(
            banner(
                "info",
                "No uncertainty.",
                f"{whose} predicts values without a standard deviation: bands and calibration need one.",
            )
        )
    return el("div", *found, cls="sv-banners")


def unread(problems: Sequence[str]) -> Html:
    """Which snapshots are not among the lines over training."""
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    told = "; ".join(problems[:3]) + more + "."
    return el("div", banner("warning", "Some snapshots cannot be read.", told, "All others are shown."), cls="sv-banners")


def missing_presence(snapshot: Path, events: Events) -> Html:
    """Why there is no presence to show."""
    why = (
        "The decoder of this run does not say which variables it expects: only the likelihood decoder does."
        if not events.has_std
        else "This snapshot was written by an older release, which did not keep the predicted presence. Newer runs, and snapshots made "
        "from a checkpoint, have it."
    )
    return el("p", why, cls="sv-dim", data_state="no-presence", data_snapshot=snapshot.stem)
