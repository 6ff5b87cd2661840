"""What came out of each run: final and best figures, and the figures that relations are looked for in."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dashboard.charts import Role
from dashboard.compare.curves import Drawn
from dashboard.compare.view import Ref, ref_text
from dashboard.runs.loading import Snapshot
from shared.panels import CATALOGUE, LABELS, metric_of
from shared.series import names_of, newest_of

Direction = Literal["higher", "lower"]
BETTER: dict[str, Direction] = {
    **dict.fromkeys(("auroc", "auprc", "accuracy", "elbo", "explained", "decoder_reliance"), "higher"),
    **dict.fromkeys(("loss", "recon", "prediction", "step_s"), "lower"),
}
"""Which way a metric is better. Of KL, active units or beta neither more nor less is better by itself: they have no best."""

PLACES: set[Ref] = {(role, name) for role in CATALOGUE for name in ("step", "v", "epoch", "time")}
"""Where a value belongs on an axis; no outcomes."""
MOST_OWN = 1000
"""A list to choose from, of runs that log something for each layer, say."""
ROLES = ("validation", "probe", "training")
"""The order of columns: what counts in the end comes first."""


@dataclass(frozen=True)
class Result:
    """One metric of one run. NaN in `final` was not finite; None was never measured."""

    final: float | None
    best: float | None = None
    best_step: int | None = None
    on: int | None = None
    """Stays that `final` was measured on, where it is of the validation split; a whole split where there was one."""
    best_on: int | None = None
    """Stays of the validations among which the best was looked for: one sample."""


def result(snapshot: Snapshot, ref: Ref) -> Result:
    """The newest value, and the best with its step where one way is better: of validations on one sample, not of the whole split."""
    return snapshot.once(("result", ref), lambda: _result(snapshot, ref))


def _result(snapshot: Snapshot, ref: Ref) -> Result:
    final = snapshot.latest(*ref)
    on = best_on = None
    if ref[0] == "validation":
        on, best_on = (
            int(stays) if stays else None
            for stays in (snapshot.latest("validation", "stays"), newest_of(snapshot.series("validation", "stays")))
        )
    steps, values = snapshot.series(*ref)
    way = BETTER.get(ref[1])
    if way is None or not np.isfinite(values).any():
        return Result(final, on=on)
    at = int(np.nanargmax(values) if way == "higher" else np.nanargmin(values))
    return Result(final, float(values[at]), int(steps[at]), on, best_on)


def title(ref: Ref) -> str:
    """A metric with where it was measured: `KL divergence, probe set`. What the step log has under a name of its own, by that alone."""
    role, name = ref
    return name if is_own(ref) and role == "training" else f"{metric_of(role, name).label}, {LABELS[role]}"


def is_own(ref: Ref) -> bool:
    """Whether it is a metric that the catalogue does not have."""
    return ref[1] not in CATALOGUE[ref[0]]


def own_metrics(runs: Sequence[Drawn]) -> list[Ref]:
    """What these runs logged under names of their own, in the order of names."""
    return sorted({ref for run in runs for ref in _logged(run.snapshot)} - PLACES, key=lambda ref: (ref[1], ref[0]))[:MOST_OWN]


def _logged(snapshot: Snapshot) -> frozenset[Ref]:
    def look() -> frozenset[Ref]:
        roles: dict[Role, Iterable[str]] = {
            "training": snapshot.training, "probe": names_of(snapshot.probes), "validation": names_of(snapshot.validations),
        }  # fmt: skip
        return frozenset((role, name) for role, names in roles.items() for name in names if is_own((role, name)))

    return snapshot.once("own metrics", look)


def said_stays(counts: Sequence[int | None]) -> str:
    """Sizes of samples in words: `256`, or `256 to 1,198` where runs differ; empty where none is known."""
    known = sorted({count for count in counts if count})
    return " to ".join(f"{count:,}" for count in dict.fromkeys((known[0], known[-1]))) if known else ""


@dataclass(frozen=True)
class Figure:
    """A number per run that an outcome chart may show."""

    key: str
    label: str
    read: Callable[[Snapshot], float | None]
    on: Callable[[Snapshot], int | None] = lambda _snapshot: None
    """Stays that it was measured on, where that is known."""

    def label_of(self, snapshots: Sequence[Snapshot]) -> str:
        """Its label, with the stays it was measured on in these runs."""
        stays = said_stays([self.on(snapshot) for snapshot in snapshots])
        return f"{self.label}, {stays} stays" if stays else self.label


def _final(ref: Ref) -> Figure:
    return Figure(
        ref_text(ref),
        f"Final {title(ref)}",
        lambda snapshot: result(snapshot, ref).final,
        lambda snapshot: result(snapshot, ref).on,
    )


def _best(ref: Ref, key: str) -> Figure:
    return Figure(
        key, f"Best {title(ref)}", lambda snapshot: result(snapshot, ref).best, lambda snapshot: result(snapshot, ref).best_on
    )


FIGURES: tuple[Figure, ...] = (
    _best(("validation", "auroc"), "auroc"), _best(("validation", "auprc"), "auprc"), _best(("validation", "loss"), "loss"),
    _final(("validation", "auroc")), _final(("validation", "auprc")), _final(("probe", "active_units")), _final(("probe", "kl")),
    _final(("probe", "mi_gauss")), _final(("probe", "recon")), _final(("probe", "decoder_reliance")), _final(("training", "loss")),
    _final(("training", "kl")),
)  # fmt: skip
OF: dict[str, Figure] = {figure.key: figure for figure in FIGURES}


def verdict_of(run: Drawn) -> str:
    """The most serious verdict that holds, in words."""
    return run.snapshot.verdicts[0].title if run.snapshot.verdicts else ""


def last_step(snapshot: Snapshot) -> int:
    """The last step of the training log; where it has none, that of the last sign of life."""
    beat = snapshot.status.heartbeat
    return snapshot.last_step if snapshot.last_step is not None else beat.step if beat else 0
