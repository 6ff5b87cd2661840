"""One run at one moment: what every panel of a page draws from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from dashboard.runs.curves import NonFinite, SeriesView
from shared.collapse import Thresholds, Verdict
from shared.drawing import Role
from shared.forecast import Forecast
from shared.reader import RunStatus
from shared.series import Rows, Series, newest_of, of_rows, split_off
from shared.verdicts import limits_of

T = TypeVar("T")
KEPT = 128
"""Figures and the like that a snapshot remembers."""


@dataclass(frozen=True)
class Snapshot:
    """One run at one revision. Not to be changed."""

    revision: int
    status: RunStatus
    training: Mapping[str, SeriesView]
    last_step: int | None
    """The newest step of the training log."""
    nonfinite: Mapping[str, NonFinite]
    generation: int
    """Changes when the training log was replaced."""
    reading: float | None
    """Share of a large training log that has been read so far, curves being a sample until then; None: all of it."""
    probes: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    dimensions: tuple[np.ndarray, np.ndarray]
    """Steps [n] and KL of each dimension at them, in nats [n, D]."""
    events: list[dict[str, Any]]
    verdicts: list[Verdict]
    """What holds, the most serious first: at least one."""
    past: list[Verdict]
    """What has ended."""
    forecast: Forecast | None
    """What was foretold last."""
    problems: list[str]
    drawn: dict[Any, tuple[Any]] = field(default_factory=dict)

    @property
    def curves_token(self) -> str:
        """Changes when a chart of the run has something new to show."""
        evaluated = [rows[-1]["step"] if rows else 0 for rows in (self.probes, self.validations)]
        verdicts = len(self.past), len(self.verdicts), max((verdict.began or 0 for verdict in self.verdicts), default=0)
        return "-".join(map(str, (self.generation, self.last_step, *evaluated, *verdicts)))

    @property
    def ended(self) -> bool:
        """Nothing more comes, unless somebody resumes the run."""
        return self.status.ended

    @property
    def limits(self) -> Thresholds:
        """What its verdicts are found with."""
        return limits_of(self.status.info) if self.status.info else Thresholds()

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The options of the run, as far as its run.json has them."""
        return self.status.info.config if self.status.info else {}

    def config(self, group: str, option: str, default: T) -> T:
        """An option of the run, or `default` where a partial run.json lacks it."""
        options = self.configuration.get(group)
        value = options.get(option) if isinstance(options, dict) else None
        return default if value is None else value

    def series(self, role: Role, name: str) -> Series:
        """Steps and values of one metric. NaN where it was not finite; steps at which it was not measured are left out.

        Of a curve too long to be kept whole, the smallest and the largest value of each of many stretches of steps.
        """
        if role == "training":
            found = self.training.get(name)
            return (found.x, found.y) if found else (np.empty(0), np.empty(0))
        return of_rows(self.probes if role == "probe" else self._validated()[0], name)

    def whole(self, name: str) -> Series:
        """Steps and values of validations of the whole split, where those of `series` are of a sample of it."""
        return of_rows(self._validated()[1], name)

    def _validated(self) -> tuple[Rows, Rows]:
        return self.once("validated", lambda: split_off(self.validations))

    def latest(self, role: Role, name: str) -> float | None:
        """The newest value of a metric, of the whole split where that was validated last; NaN if it was not finite, None if it was
        never measured."""
        found = self.series(role, name)
        return newest_of(found, self.whole(name)) if role == "validation" else newest_of(found)

    def first_nonfinite(self, name: str) -> int | None:
        """The first step at which a metric of the step log was NaN or infinite."""
        return self.nonfinite[name].first if name in self.nonfinite else None

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """`make()`, remembered for this revision: several open pages share one figure. The newest `KEPT` are remembered."""
        found = self.drawn.get(key)
        if found is None:
            found = self.drawn[key] = (make(),)
            for old in list(self.drawn)[:-KEPT]:
                self.drawn.pop(old, None)
        return found[0]
