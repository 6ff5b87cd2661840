"""Which curves, limits and words belong into which chart, whoever draws it: the dashboard's pages, or pictures in a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.collapse import Thresholds
from shared.drawing import Curve, Guide, Mark, Role, Scale
from shared.metrics import PROBE, TRAINING, VALIDATION, Metric
from shared.series import Series
from shared.source import Source
from shared.verdicts import unwatched

CATALOGUE: dict[Role, dict[str, Metric]] = {"training": TRAINING, "probe": PROBE, "validation": VALIDATION}
LABELS: dict[Role, str] = {"training": "training", "probe": "probe set", "validation": "validation"}


def metric_of(role: Role, name: str) -> Metric:
    """What is known of a metric; of one that a run logged under a name of its own, the name alone."""
    return CATALOGUE[role].get(name) or Metric(name, "", "Logged by the run under this name; no more is known of it here.")


@dataclass(frozen=True)
class Facts:
    """What guides depend on."""

    limits: Thresholds
    """Those that the verdicts of the run were found with."""
    latent_dims: float | None
    positives: float | None
    free_bits: float | None = None
    """KL that the loss lets pass without a price, over all dimensions, in nats per set."""
    best_recon: float | None = None
    """The lowest reconstruction loss of the probe set, in nats per set."""


OF_FACTS: set[tuple[Role, str]] = {
    ("probe", "latent_dims"),
    ("probe", "recon"),
    ("validation", "positives"),
    ("validation", "stays"),
}
Guides = Callable[[Facts], list[Guide]]


@dataclass(frozen=True)
class Panel:
    """One chart: a metric, seen from one or more sources."""

    metric: str
    sources: tuple[Role, ...]
    guide_text: str = ""
    scale: Scale = "auto"
    guides: Guides = lambda _facts: []
    include: Callable[[Facts], list[float]] = lambda _facts: []
    beside: tuple[tuple[Role, str, str], ...] = ()

    @property
    def info(self) -> Metric:
        """Label, unit and meaning from the shared catalogue."""
        return metric_of(self.sources[0], self.metric)

    @property
    def help(self) -> str:
        """The reading guide."""
        others = "".join(
            f"\n\n{CATALOGUE[role][name].label} (dotted): {CATALOGUE[role][name].help}" for role, name, _ in self.beside
        )
        return f"{self.info.help}{others}" + (f"\n\n{self.guide_text}" if self.guide_text else "")


def _kl_guides(facts: Facts) -> list[Guide]:
    limit = facts.limits.information_nats
    most = facts.limits.kl_excess_per_dim * facts.latent_dims if facts.latent_dims else limit * 1e6
    guides = [Guide("", limit, most, tone="good"), Guide(f"carries nothing below {limit:g}", limit, tone="limit")]
    if facts.free_bits:
        guides.append(Guide(f"free bits allow {facts.free_bits:,.3g}", facts.free_bits))
    if facts.latent_dims:
        guides.append(Guide(f"explosion above {most:,.0f}", most, tone="limit", always=False))
    return guides


def _active_guides(facts: Facts) -> list[Guide]:
    if not facts.latent_dims:
        return []
    return [
        Guide("", 1, facts.latent_dims, tone="good"),
        Guide("none active: collapse", 0, tone="limit"),
        Guide(f"all {facts.latent_dims:,.0f}", facts.latent_dims),
    ]


def _variance_guides(_facts: Facts) -> list[Guide]:
    return [Guide("", 0.0, 0.99, tone="good"), Guide("1 = as its prior: carries nothing", 1.0, tone="limit")]


def _best(facts: Facts) -> list[Guide]:
    if facts.best_recon is None:
        return []
    rise = facts.limits.overfit_rise
    worse = facts.best_recon + rise * abs(facts.best_recon)
    return [Guide("", facts.best_recon, worse, tone="good"), Guide(f"best {facts.best_recon:.4g}", facts.best_recon)]


def _chance(facts: Facts) -> list[Guide]:
    return [Guide(f"chance {facts.positives:.3g}", facts.positives)] if facts.positives else []


def _majority(facts: Facts) -> list[Guide]:
    if facts.positives is None:
        return []
    share = max(facts.positives, 1 - facts.positives)
    return [Guide(f"majority share {share:.3g}", share)]


def _reliance(facts: Facts) -> list[Guide]:
    limit = facts.limits.decoder_reliance
    return [Guide(f"ignores the latent below {100 * limit:.3g}%", limit, tone="limit")]


BOTH: tuple[Role, Role] = ("training", "probe")
LOSS: tuple[Role, Role] = ("training", "validation")

POSTERIOR = (
    Panel(
        "kl", BOTH, scale="log", guides=_kl_guides, beside=(("probe", "mi_gauss", "information"),),
        guide_text="The information is a part of the KL, so its curve lies below; the rest of the KL says nothing about the patient. "
        "How large a healthy KL is depends on beta and on the number of dimensions; free bits let it rise, without a price, to "
        "their floor times the dimensions. "
        "The verdict looks at the information (collapse below the limit that is drawn) and at active units.",
    ),
    Panel(
        "posterior_variance", BOTH, guides=_variance_guides, include=lambda _facts: [0.0, 1.0],
        guide_text="The shaded band is where a posterior knows more than its prior.",
    ),
    Panel(
        "active_units", BOTH, guides=_active_guides, include=lambda facts: [0.0, facts.latent_dims or 1.0],
        guide_text=f"A unit is active when the variance of its mean over patients, relative to its prior, exceeds "
        f"{Thresholds.active_variance:g}.",
    ),
    Panel(
        "recon", BOTH, guides=_best,
        guide_text="The probe is a fixed set, in evaluation mode: its curve is free of batch noise and dropout. The band begins at "
        "its best. Once it leaves the band "
        "for good while training goes on falling, the model overfits; a curve that stays flat from the start has stagnated.",
    ),
)  # fmt: skip
LOSSES = (
    Panel("loss", LOSS, guide_text="Validation rising while training falls is overfitting."),
    Panel("prediction", LOSS),
    Panel(
        "elbo",
        LOSS,
        guide_text="Higher is better. Training weighs the KL with beta; the ELBO counts it in full, so with a small beta the loss "
        "may fall while the ELBO falls too.",
    ),
)
OUTCOME = (
    Panel("auroc", ("validation",), guides=lambda _facts: [Guide("chance 0.5", 0.5), Guide("good from 0.7", 0.7),
                                                               Guide("excellent from 0.9", 0.9)],
          include=lambda _facts: [0.5, 0.9]),
    Panel("auprc", ("validation",), guides=_chance),
    Panel("accuracy", ("validation",), guides=_majority),
)  # fmt: skip
DECODER = (
    Panel(
        "decoder_reliance", ("probe",), guides=_reliance,
        guide_text="The one figure that free bits cannot fool.", include=lambda _facts: [0.0],
    ),
    Panel("var_between", ("probe",), beside=(("probe", "var_within", "within patients"),), include=lambda _facts: [0.0]),
)  # fmt: skip
KL_LOSS = Panel("kl_loss", ("training",), scale="log")
WEIGHTS = Panel(
    "weight_recon", ("training",), beside=(("training", "weight_prediction", "prediction"),), include=lambda _facts: [0.0]
)
"""Charts of pictures in files, for which a page has no room."""
PACE = (
    Panel("beta", ("training",), include=lambda _facts: [0.0]),
    Panel("lr", ("training",), include=lambda _facts: [0.0]),
    Panel("grad_norm", ("training",)),
    Panel("step_s", ("training",), include=lambda _facts: [0.0]),
)


@dataclass(frozen=True)
class Content:
    """All that is in one chart."""

    curves: list[Curve]
    unit: str
    guides: list[Guide]
    include: list[float]
    """Values always in view."""
    marks: list[Mark]
    scale: Scale
    empty: str
    """What stands there when no curve has a value."""


def content(source: Source, panel: Panel, empty: str | None = None) -> Content:
    """What belongs into the chart of one panel; `empty` is said instead of the usual words where there is nothing."""
    known = facts(source)
    curves = [
        Curve(LABELS[role], *source.series(role, panel.metric), role, source=f"{role}:{panel.metric}") for role in panel.sources
    ]
    curves = [one for curve in curves for one in _by_sample(source, curve, panel.metric)]
    curves += [
        Curve(label, *source.series(role, name), role, dashed=True, source=f"{role}:{name}")
        for role, name, label in panel.beside
    ]
    return Content(
        curves, panel.info.unit, panel.guides(known), panel.include(known), marks(source, panel), panel.scale,
        empty or why_empty(source, panel),
    )  # fmt: skip


def _by_sample(source: Source, curve: Curve, metric: str) -> list[Curve]:
    """Validations, and beside them those of the whole split, each with its number of stays: two samples are not one curve."""
    if curve.role != "validation":
        return [curve]
    steps, values = source.whole(metric)
    if not len(steps):
        return [curve]
    sample, whole = (_on(series) for series in (source.series("validation", "stays"), source.whole("stays")))
    apart = Curve(f"whole split{whole}", steps, values, "validation", apart=True)
    return [replace(curve, label=f"{curve.label}{sample}"), apart] if len(curve.x) else [apart]


def _on(stays: Series) -> str:
    return f", {stays[1][-1]:,.0f} stays" if len(stays[1]) else ""


def wanted(panels: Sequence[Panel]) -> set[tuple[Role, str]]:
    """All the series that `content` of these panels asks a source for."""
    own = {(role, panel.metric) for panel in panels for role in panel.sources}
    return own | {(role, name) for panel in panels for role, name, _ in panel.beside} | OF_FACTS


def facts(source: Source) -> Facts:
    """The sizes that limits depend on, from the newest rows that have them: of `OF_FACTS`."""
    dims = source.latest("probe", "latent_dims")
    _, recon = source.series("probe", "recon")
    best = float(np.nanmin(recon)) if np.isfinite(recon).any() else None
    return Facts(source.limits, dims, source.latest("validation", "positives"), _free_bits(source, dims), best)


def _free_bits(source: Source, dims: float | None) -> float | None:
    floor, mode = source.config("loss", "free_bits", 0.0), source.config("loss", "free_bits_mode", "dimension")
    scale = 1.0 if mode == "set" else dims
    return floor * scale if scale and isinstance(floor, int | float) and floor > 0 else None


def marks(source: Source, panel: Panel) -> list[Mark]:
    """Where a verdict began, and where this metric stopped being finite. Words stand where the verdict is drawn from: elsewhere
    the line alone, so that one can see what else happened there.
    """
    found = [
        Mark(verdict.title if "probe" in panel.sources else "", verdict.began) for verdict in (*source.verdicts, *source.past)
        if verdict.began is not None and verdict.kind != "nonfinite" and verdict.severity in ("alarm", "warning")
    ]  # fmt: skip
    bad = source.first_nonfinite(panel.metric)
    return found if bad is None else [*found, Mark("not finite", bad)]


def why_empty(source: Source, panel: Panel) -> str:
    """What stands in a chart that has no values."""
    reason = unwatched(source.configuration) if "probe" in panel.sources and not source.probes else None
    if reason:
        return reason.title
    alone = panel.sources[0] if len(panel.sources) == 1 else None
    return nothing(
        "validation" if alone == "validation" else "probe evaluation" if alone == "probe" else "values", source.ended
    )


def nothing(of: str, ended: bool) -> str:
    """What stands where there is none of them: `yet` only where some may come."""
    return f"No {of}" if ended else f"No {of} yet"
