"""How often the posterior of a run is evaluated on its probe, where its options leave that open."""

from collections.abc import Mapping
from typing import Any

EVALUATED_EVERY = {False: 200, True: 100}
"""Optimizer steps between evaluations, by `fast_detection`."""
LEAST_EVALUATIONS = 20
"""So many are planned in a short run."""


def evaluated_every(monitor: Mapping[str, Any], steps: int | None) -> int:
    """Optimizer steps between the evaluations that are planned.

    Args:
        monitor: that part of a run's options (`shared.config.MonitorConfig`).
        steps: those of the whole run, None where unknown.
    """
    asked: int | None = monitor.get("update_frequency")
    usual = EVALUATED_EVERY[bool(monitor.get("fast_detection"))]
    return asked or (usual if steps is None else min(usual, max(steps // LEAST_EVALUATIONS, 1)))
