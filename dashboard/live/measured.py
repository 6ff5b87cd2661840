"""How old the figures of the posterior are: those of the step log are of now, those of the probe of its last evaluation."""

from dataclasses import dataclass

from dashboard.formats import count
from dashboard.runs.snapshot import Snapshot
from dashboard.widgets import Html, el
from shared.cadence import EVALUATED_EVERY

LATE = 4
"""Planned intervals after which an evaluation is called old: one that is put off (`probe_time_budget`) still measures."""


@dataclass(frozen=True)
class Measured:
    """The newest evaluation of the probe."""

    step: int
    ago: int
    """Steps trained since."""
    every: int | None
    """Steps planned between evaluations; None where neither the options nor the evaluations say."""

    @property
    def old(self) -> bool:
        """Whether several evaluations that were planned since have not come."""
        return self.every is not None and self.ago > LATE * self.every

    @property
    def since(self) -> str:
        """Its age in steps."""
        return "the newest step" if self.ago == 0 else f"{count(self.ago)} step{'' if self.ago == 1 else 's'} ago"

    @property
    def words(self) -> str:
        """Where and how long ago, and what was planned where it is old."""
        late = f"; one every {count(self.every)} was planned, see Events" if self.old else ""
        return f"measured at step {count(self.step)}, {self.since}{late}"

    def line(self, name: str, text: str) -> Html:
        """`text`, one of the two above, as it is pushed under this name."""
        return el("span", text, cls="sv-warning sv-old" if self.old else "sv-dim", data_metric=name)


def measured(snapshot: Snapshot) -> Measured | None:
    """None before the first evaluation."""
    steps = [int(row["step"]) for row in snapshot.probes[-2:]]
    if not steps:
        return None
    beat = snapshot.status.heartbeat
    now = snapshot.last_step if snapshot.last_step is not None else beat.step if beat else steps[-1]
    fast: bool | None = snapshot.config("monitor", "fast_detection", None)
    preset = EVALUATED_EVERY[fast] if isinstance(fast, bool) else None
    asked: int | None = snapshot.config("monitor", "update_frequency", preset)
    if (
        snapshot.probes[-1].get("source") == "training window"
    ):  # without a probe, evaluations are of windows that do not overlap
        asked = max(asked or 0, snapshot.config("monitor", "window_size", 0))
    every = asked if isinstance(asked, int) and asked > 0 else steps[1] - steps[0] if len(steps) > 1 else None
    return Measured(steps[-1], max(now - steps[-1], 0), every)
