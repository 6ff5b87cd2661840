"""What defines a view of the Compare page, and its address: opening the address gives the same view."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args
from urllib.parse import urlencode

from dashboard.charts import Role, Scale

Tab = Literal["curves", "config", "table", "relations", "export"]
Alignment = Literal["step", "epoch", "time", "onset"]
Grouping = Literal["off", "minmax", "sd"]
Ref = tuple[Role, str]
"""A metric: where it was measured, and its name, which may be one that only the runs know."""

REPORT = "/compare-report"
"""Where the report of a view is, with the view's parameters."""
MOST_RUNS = 100
"""Beyond, lines cannot be told apart and browsers slow down."""
MOST_SMOOTHING = 1_000_000
MOST_METRICS = 200
"""Charts of one view."""
NEWEST = 5
"""Runs shown where nobody chose any."""

SETS: dict[str, tuple[Ref, ...]] = {
    "overview": (
        ("training", "loss"), ("training", "recon"), ("training", "kl"), ("probe", "mi_gauss"),
        ("probe", "active_units"), ("validation", "loss"), ("validation", "auroc"), ("validation", "auprc"),
    ),
    "posterior": (
        ("probe", "kl"), ("probe", "mi_gauss"), ("probe", "active_units"), ("probe", "posterior_variance"),
        ("probe", "recon"), ("probe", "decoder_reliance"), ("probe", "var_between"), ("training", "kl"),
    ),
    "losses": (
        ("training", "loss"), ("training", "recon"), ("training", "prediction"), ("training", "elbo"),
        ("validation", "loss"), ("validation", "recon"), ("validation", "prediction"), ("validation", "elbo"),
    ),
    "outcome": (("validation", "auroc"), ("validation", "auprc"), ("validation", "accuracy"), ("validation", "prediction")),
    "pace": (("training", "beta"), ("training", "lr"), ("training", "grad_norm"), ("training", "step_s")),
}  # fmt: skip


def ref_text(ref: Ref) -> str:
    """A metric in an address: `probe.kl`. Commas part metrics there, so those of names are written as %2C."""
    return f"{ref[0]}.{ref[1].replace('%', '%25').replace(',', '%2C')}"


def parse_ref(text: str) -> Ref | None:
    """The metric of `probe.kl`; None where nothing can be measured. Whether a run has such a metric, the runs must tell."""
    role, _, name = text.partition(".")
    for known in get_args(Role):
        if role == known and name:
            return known, name.replace("%2C", ",").replace("%25", "%")
    return None


@dataclass(frozen=True)
class View:
    """All choices of the page. Defaults are left out of the address."""

    run: tuple[str, ...] = ()
    filter: str = ""
    tab: Tab = "curves"
    metrics: str = "overview"
    """A name of `SETS`, or metrics joined by commas."""
    x: Alignment = "step"
    smooth: int = 0
    """Steps over which the weights of the moving average fall to 1/e; 0: none."""
    group: Grouping = "off"
    scale: Scale = "auto"
    across: str = ""
    """Option or figure on the horizontal axis of the scatter chart; empty: the first that varies."""
    up: str = "auroc"
    """Figure on its vertical axis."""

    @classmethod
    def of(cls, params: Mapping[str, Sequence[str]]) -> Self:
        """The view of an address; what it does not know or cannot understand is left at its default."""
        last = {name: values[-1] for name, values in params.items() if values}
        kept: dict[str, Any] = {"run": tuple(dict.fromkeys(params.get("run", ())))}
        for name, kind in (("tab", Tab), ("x", Alignment), ("group", Grouping), ("scale", Scale)):
            if last.get(name) in get_args(kind):
                kept[name] = last[name]
        kept |= {name: last[name] for name in ("filter", "across", "up") if name in last}
        if _refs(last.get("metrics", "")):
            kept["metrics"] = last["metrics"]
        if last.get("smooth", "").isdecimal():
            kept["smooth"] = min(int(last["smooth"]), MOST_SMOOTHING)
        return cls(**kept)

    def params(self) -> dict[str, list[str]]:
        """The address: parameter to its values."""
        plain = type(self)()
        found = {"run": list(self.run)} if self.run else {}
        for name in ("filter", "tab", "metrics", "x", "smooth", "group", "scale", "across", "up"):
            value = getattr(self, name)
            if value != getattr(plain, name):
                found[name] = [str(value)]
        return found

    def query(self, runs: Iterable[str] | None = None, **more: str) -> str:
        """The address behind its question mark; with `runs`, of exactly these runs whatever the filter."""
        view = self if runs is None else replace(self, run=tuple(runs), filter="")
        return urlencode(view.params() | {name: [value] for name, value in more.items()}, doseq=True)

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The metrics to draw, in order."""
        return _refs(self.metrics) or SETS["overview"]

    @property
    def key(self) -> str:
        """Keeps zoom while it stays: what the axes mean."""
        return f"{self.x}:{self.scale}"


def _refs(text: str) -> tuple[Ref, ...]:
    if text in SETS:
        return SETS[text]
    found = (parse_ref(part) for part in text.split(","))
    return tuple(dict.fromkeys(ref for ref in found if ref is not None))[:MOST_METRICS]
