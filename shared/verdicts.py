"""What is to be said about a run, from its configuration and its rows: by the trainer while it runs, and by every page."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from shared.collapse import SEVERITIES, Verdict, judge

MAY_OVERFLOW = frozenset({"grad_norm"})
"""Infinite now and then by design: a loss scaler in half precision looks for its limit."""
FINETUNE = Verdict(
    "off", "info", "No posterior to watch", "Fine-tuning trains the classifier alone, on a frozen posterior: look at AUROC and AUPRC."
)  # fmt: skip
MONITOR_OFF = Verdict(
    "off", "info", "Posterior monitoring is off", "This run was started with --disable_metrics_monitoring: no verdict."
)


def judge_run(
    config: Mapping[str, Any], probes: Sequence[Mapping[str, Any]], nonfinite: Mapping[str, Sequence[int]], newest: int
) -> list[Verdict]:
    """All verdicts on a run, the most serious first: at least one.

    `config` is that of its run.json, `probes` its rows of kind "probe", `nonfinite` the steps at which a metric of its step
    log was NaN or infinite, `newest` the last step of that log.
    """
    found = [(None if probes else unwatched(config)) or judge(probes, beta_warmup(config))]
    serious = {name: steps for name, steps in nonfinite.items() if steps and name not in MAY_OVERFLOW}
    if serious:
        found.append(_nonfinite(serious, newest))
    return sorted(found, key=lambda verdict: SEVERITIES.index(verdict.severity))


def unwatched(config: Mapping[str, Any]) -> Verdict | None:
    """Why a run has no posterior to watch; None for one that has."""
    if _option(config, "monitor", "disable_metrics_monitoring"):
        return MONITOR_OFF
    return FINETUNE if _option(config, "trainer", "stage") == "finetune" else None


def beta_warmup(config: Mapping[str, Any]) -> int:
    """Steps in which beta rises; 0 where it is constant, or where a foreign or partial run.json does not say."""
    steps = _option(config, "loss", "beta_warmup_steps")
    return steps if isinstance(steps, int) and _option(config, "loss", "beta_schedule") != "constant" else 0


def nonfinite_steps(rows: pd.DataFrame) -> dict[str, list[int]]:
    """Metric to the steps at which it was NaN or infinite, from rows of a step log."""
    found: dict[str, list[int]] = {}
    if "nonfinite" in rows:
        marked = rows[rows["nonfinite"].notna()]
        for step, names in zip(marked["step"], marked["nonfinite"], strict=True):
            for name in names:
                found.setdefault(str(name), []).append(int(step))
    return found


def _option(config: Mapping[str, Any], group: str, name: str) -> Any:
    options = config.get(group)
    return options.get(name) if isinstance(options, Mapping) else None


def _nonfinite(found: Mapping[str, Sequence[int]], newest: int) -> Verdict:
    """Alarm while it lasts; afterwards a warning where the loss itself was hit, else a note."""
    steps = sorted({step for one in found.values() for step in one})
    names = ", ".join(sorted(found))
    going_on = steps[-1] >= newest
    when = f"in {len(steps):,} step{'s' if len(steps) > 1 else ''}, last at step {steps[-1]:,}"
    return Verdict(
        "nonfinite", "alarm" if going_on else "warning" if "loss" in found else "info",
        "NaN or infinity in training", f"Not finite: {names} ({when}).", steps[0], steps[-1],
        remedy="Lower the learning rate, keep gradient clipping on, use 32-bit precision, and check the data for wild values.",
    )  # fmt: skip
