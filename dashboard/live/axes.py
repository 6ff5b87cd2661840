"""What runs along a chart: optimizer steps, epochs, or the clock. All logs are kept by step; this converts there and back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dashboard.runs.snapshot import Snapshot

AxisKind = Literal["step", "epoch", "time"]


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: `steps` [N] and what stands at them, `places` [N], both ascending; empty where a step is its own place."""

    kind: AxisKind
    title: str
    steps: np.ndarray
    places: np.ndarray
    dates: bool = False
    """Places are milliseconds since 1970."""

    def at(self, steps: np.ndarray | float) -> np.ndarray:
        """Where steps stand; beyond the known ones as at the last of them."""
        return np.interp(steps, self.steps, self.places) if len(self.steps) else np.asarray(steps, float)

    def steps_at(self, places: np.ndarray | float) -> np.ndarray:
        """The steps that stand there."""
        return np.interp(places, self.places, self.steps) if len(self.steps) else np.asarray(places, float)


def axis_of(snapshot: Snapshot, kind: AxisKind) -> Axis:
    """The axis of a run. Where the log has no epochs or times it falls back to what it has, and its title says so."""
    return snapshot.once(("axis", kind), lambda: _make(snapshot, kind))


def _make(snapshot: Snapshot, kind: AxisKind) -> Axis:
    nothing = np.empty(0)
    if kind == "epoch":
        steps, epochs = _solid(snapshot, "epoch")
        if len(steps):
            return Axis(kind, "epoch", steps, epochs)
        return Axis("step", "optimizer step (this run has no epochs)", nothing, nothing)
    if kind == "time":
        steps, seconds = _solid(snapshot, "time")
        if len(steps):
            return Axis(kind, "time (UTC)", steps, 1000 * seconds, dates=True)
        view = snapshot.training.get("step_s")
        if view is not None and len(view.means[0]):
            steps, each = view.means
            return Axis(kind, "hours of training, pauses left out", steps, np.cumsum(each * np.diff(steps, prepend=0)) / 3600)
        return Axis("step", "optimizer step (this run has no times)", nothing, nothing)
    return Axis("step", "optimizer step", nothing, nothing)


def _solid(snapshot: Snapshot, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric that only rises: a clock that was set back stands still until it has caught up."""
    steps, values = snapshot.series("training", name)
    keep = np.isfinite(values)
    return steps[keep], np.maximum.accumulate(values[keep]) if keep.any() else values[keep]
