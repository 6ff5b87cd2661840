"""The charts of the Live page as Plotly figures. What belongs into each is said in `shared.panels`, for pictures in files too."""

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import Look, Role, draw
from dashboard.loading import Snapshot
from shared.panels import (
    BOTH,
    CATALOGUE,
    DECODER,
    LABELS,
    LIMITS,
    LOSS,
    LOSSES,
    OUTCOME,
    PACE,
    POSTERIOR,
    Facts,
    Guides,
    Panel,
    content,
    facts,
    marks,
)  # fmt: skip

__all__ = [
    "BOTH", "CATALOGUE", "DECODER", "LABELS", "LIMITS", "LOSS", "LOSSES", "OUTCOME", "PACE", "POSTERIOR", "Facts", "Guides", "Panel",
    "content", "facts", "figure", "latest", "marks", "series",
]  # fmt: skip


def series(snapshot: Snapshot, role: Role, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one metric. NaN where it was not finite; steps at which it was not measured are left out."""
    return snapshot.series(role, name)


def latest(snapshot: Snapshot, role: Role, name: str) -> float | None:
    """The newest value of a metric; NaN if it was not finite, None if it was never measured."""
    return snapshot.latest(role, name)


def figure(snapshot: Snapshot, panel: Panel, look: Look) -> go.Figure:
    """The chart of one panel."""
    found = content(snapshot, panel)
    return draw(
        found.curves, unit=found.unit, guides=found.guides, include=found.include, marks=found.marks, look=look, prefer=found.scale,
        identity=f"{snapshot.status.name}:{panel.metric}", empty=found.empty,
    )  # fmt: skip
