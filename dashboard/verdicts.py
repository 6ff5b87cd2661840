"""The verdict a page shows for a run: the posterior rules, with what the log itself says about NaN and infinity."""

from collections.abc import Mapping
from typing import Any

from dashboard.loading import NonFinite, Snapshot
from shared.collapse import Verdict, judge

MONITOR_OFF = Verdict(
    "off", "info", "Posterior monitoring is off", "This run was started with --disable_metrics_monitoring: no verdict."
)


def verdict_of(probes: list[dict[str, Any]], config: Mapping[str, Any]) -> Verdict:
    """The rules on the probe rows, with the beta warm-up of the run's own configuration."""
    loss, monitor = config.get("loss"), config.get("monitor")
    if not probes and isinstance(monitor, dict) and monitor.get("disable_metrics_monitoring"):
        return MONITOR_OFF
    warmup = loss.get("beta_warmup_steps") if isinstance(loss, dict) else None
    return judge(probes, beta_warmup_steps=warmup if isinstance(warmup, int) else 0)


def verdicts(snapshot: Snapshot) -> list[Verdict]:
    """All that is to be said about a run, the most serious first: at least one."""
    config = snapshot.status.info.config if snapshot.status.info else {}
    found = [verdict_of(snapshot.probes, config)]
    if snapshot.nonfinite:
        found.append(_nonfinite(snapshot.nonfinite, int(snapshot.steps[-1])))
    order = ("alarm", "warning", "info", "ok")
    return sorted(found, key=lambda verdict: order.index(verdict.severity))


def _nonfinite(found: Mapping[str, NonFinite], newest: int) -> Verdict:
    """Alarm while it lasts; afterwards a note, for half precision skips a step with an infinite gradient now and then."""
    steps = sorted({step for one in found.values() for step in one.steps})
    names = ", ".join(sorted(found))
    going_on = steps[-1] == newest
    when = f"in {len(steps):,} step{'s' if len(steps) > 1 else ''}, last at step {steps[-1]:,}"
    return Verdict(
        "nonfinite", "alarm" if going_on else "warning" if "loss" in found else "info",
        "NaN or infinity in training", f"Not finite: {names} ({when}).", steps[0], steps[-1],
        remedy="Lower the learning rate, keep gradient clipping on, use 32-bit precision, and check the data for wild values."
        if going_on or "loss" in found else "A single infinite gradient in half precision is skipped and harmless.",
    )  # fmt: skip
