"""From the rows of a run's logs to steps and values of one metric: NaN where it was not finite, nothing where it was not measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.probes import nonfinite_names

Rows = list[Mapping[str, Any]]
Series = tuple[np.ndarray, np.ndarray]
"""Steps and values, [N] each."""


def of_column(steps: np.ndarray, values: np.ndarray | None, nonfinite: Sequence[int] = ()) -> Series:
    """A column of the step log, which is NaN both where nothing was measured and at the steps `nonfinite`, which are kept."""
    if values is None:
        return np.array(nonfinite, float), np.full(len(nonfinite), np.nan)
    keep = np.isfinite(values)
    if len(nonfinite):
        keep = keep | np.isin(steps, nonfinite)
    return steps[keep], values[keep]


def names_of(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The metrics that evaluations have a value of, be it none that is finite."""
    return {
        name for row in rows for name, value in row.items() if isinstance(value, int | float) or name in nonfinite_names(row)
    }


def of_rows(rows: Sequence[Mapping[str, Any]], name: str) -> Series:
    """A metric of evaluations."""
    known = [row for row in rows if isinstance(row.get(name), int | float) or name in nonfinite_names(row)]
    values = [row[name] if isinstance(row.get(name), int | float) else np.nan for row in known]
    return np.array([row["step"] for row in known], float), np.array(values, float)


def split_off(rows: Sequence[Mapping[str, Any]]) -> tuple[Rows, Rows]:
    """Validations on the sample that is used during training, and those of the whole split (`full`), whose figures do not compare.

    Where nothing but the whole split was ever evaluated it is the sample.
    """
    sample, whole = [row for row in rows if row.get("full") is not True], [row for row in rows if row.get("full") is True]
    return (sample, whole) if sample else (whole, [])


def newest_of(*found: Series) -> float | None:
    """The value at the last step of several series, of the later one where two have the same; None of none."""
    ends = [(float(steps[-1]), at, float(values[-1])) for at, (steps, values) in enumerate(found) if len(steps)]
    return max(ends)[2] if ends else None
