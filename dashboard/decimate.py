"""Thinning of curves, as `shared.decimate` does it for every picture."""

from shared.decimate import POINTS, decimate

__all__ = ["POINTS", "decimate"]
