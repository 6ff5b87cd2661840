"""What charts need of a run, whoever read its logs: the dashboard in parts while it grows, or the backend at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from shared.collapse import Thresholds, Verdict
from shared.drawing import Role
from shared.series import Series

T = TypeVar("T")


class Source(Protocol):
    """A run at one moment, as far as its charts need it."""

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """What holds."""

    @property
    def past(self) -> Sequence[Verdict]:
        """What has ended."""

    @property
    def probes(self) -> Sequence[Mapping[str, Any]]:
        """Evaluations of the probe set."""

    @property
    def ended(self) -> bool:
        """Nothing more comes."""

    @property
    def limits(self) -> Thresholds:
        """What its verdicts are found with."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The options of the run, empty where nothing is known of them."""

    def config(self, group: str, option: str, default: T) -> T:
        """One option, or `default` where it is not known."""

    def series(self, role: Role, name: str) -> Series:
        """Steps and values of one metric; NaN where it was not finite."""

    def whole(self, name: str) -> Series:
        """The same of validations of the whole split, where those of `series` are of a sample of it."""

    def latest(self, role: Role, name: str) -> float | None:
        """Its newest value, of the whole split where that is it; NaN if that was not finite, None if it was never measured."""

    def first_nonfinite(self, name: str) -> int | None:
        """The first step at which a metric of the step log was NaN or infinite."""
