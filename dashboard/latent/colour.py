"""What the points of a latent map are coloured by: values of each set, with their unit and what is not known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dashboard.latent.data import Observed, Source, errors_of, observed_of
from shared.errors import InputError
from shared.latents import LatentSets
from shared.layout import RunLayout

OUTCOME, TIME, ERROR, DIMENSION, VARIABLE = "outcome", "time", "error", "dimension", "var:"
MOST_CATEGORIES = 5
"""Whole numbers of so few kinds are told apart by shape as well as colour."""


@dataclass(frozen=True)
class Colouring:
    """Values of N sets, NaN where not known; categories when there are few."""

    label: str
    unit: str
    values: np.ndarray
    names: dict[float, str] | None = None
    """Of each category; None for a continuous scale"""
    missing: str = "not known"
    """Why a value may be missing"""

    @property
    def title(self) -> str:
        """With the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def choices(layout: RunLayout, source: Source, label: str) -> dict[str, str]:
    """What there is to colour by: key in the address to its words."""
    found = {OUTCOME: f"Outcome: {label.replace('_', ' ')}", TIME: "Time since admission (h)"}
    if source.reconstruction.exists():
        found[ERROR] = "Reconstruction error (standard deviations)"
    found[DIMENSION] = "A latent dimension"
    observed = _observed(observed_at(layout, source))
    if observed is not None:
        for name in observed.names:
            unit = observed.units.get(name, "")
            found[f"{VARIABLE}{name}"] = f"{name} ({unit})" if unit else name
    return found


def observed_at(layout: RunLayout, source: Source | None) -> Path:
    """Where the values of variables lie: a checkpoint was looked at with other stays than the training's probe."""
    own = layout.analysed("observed", source.checkpoint) if source is not None and source.checkpoint else layout.observed
    return own if own.exists() else layout.observed


def why_no_variables(layout: RunLayout, source: Source | None = None) -> str | None:
    """A sentence when values of variables cannot be had."""
    try:
        missing = observed_of(observed_at(layout, source)) is None
    except InputError as error:
        return f"Values of variables cannot be shown: {error}."
    return (
        "Values of variables were not kept with this run (an older release, or a model of its own): colour by the rest."
        if missing
        else None
    )


def _observed(path: Path) -> Observed | None:
    try:
        return observed_of(path)
    except InputError:
        return None


def colouring(key: str, sets: LatentSets, layout: RunLayout, source: Source, label: str, dimension: int) -> Colouring:
    """The values of every set of a snapshot. Raises InputError for a file that cannot be read."""
    if key == TIME:
        return Colouring("time since admission", "h", sets.minute / 60)
    if key == ERROR:
        return Colouring("reconstruction error", "SD", error_by_set(sets, source), missing="not decoded")
    if key == DIMENSION:
        return Colouring(f"mean of dimension {dimension}", "", sets.mu[:, dimension])
    if key.startswith(VARIABLE):
        observed = observed_of(observed_at(layout, source))
        if observed is not None:
            return _variable(key.removeprefix(VARIABLE), sets, observed)
    names = {0.0: "no", 1.0: "yes"} if set(np.unique(sets.outcome[np.isfinite(sets.outcome)])) <= {0.0, 1.0} else None
    return Colouring(label.replace("_", " "), "", sets.outcome, names, missing="outcome not known")


def error_by_set(sets: LatentSets, source: Source) -> np.ndarray:
    """Root mean square reconstruction error of each set, NaN where it was not decoded."""
    errors = errors_of(source.reconstruction) or {}
    pairs = zip(sets.stay, sets.minute.tolist(), strict=True)
    return np.array([errors.get((stay, minute), np.nan) for stay, minute in pairs], float)


def _variable(name: str, sets: LatentSets, observed: Observed) -> Colouring:
    own = observed.frame[observed.frame["variable"] == name]
    values = own.set_index("set_row")["value"].reindex(sets.row).to_numpy(float)
    unit = observed.units.get(name, "")
    return Colouring(name, unit, values, _categories(values, unit), missing="not measured by then")


def _categories(values: np.ndarray, unit: str) -> dict[float, str] | None:
    """Words of the few whole numbers a variable takes; those of a unit like `1: male, 0: female`, else the numbers."""
    known = np.unique(values[np.isfinite(values)])
    if not 0 < len(known) <= MOST_CATEGORIES or (known != known.round()).any():
        return None
    words = _words(unit)
    return {float(value): words.get(int(value), f"{value:g}") for value in known}


def _words(unit: str) -> dict[int, str]:
    parts = [part.partition(":") for part in unit.split(",")]
    return {int(number): word.strip() for number, _, word in parts if number.strip().isdecimal() and word.strip()}
