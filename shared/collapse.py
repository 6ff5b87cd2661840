"""What a verdict is, and the documented limits behind it. No torch: live, stored, anywhere.

Every rule looks at raw (mu, logvar) statistics, never at a loss term: a free-bits floor or a beta hides the truth there.
The two older rules (mean variance < 0.1, exp(logvar) > 0.01) point the wrong way and raise nothing here.
"""

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["ok", "info", "warning", "alarm"]
SEVERITIES: tuple[Severity, ...] = ("alarm", "warning", "info", "ok")
Sensitivity = Literal["early", "balanced", "strict"]

COLLAPSES = frozenset(
    {"collapse", "constant_shift", "decoder_ignores_latent", "partial_dimensions", "partial_level", "partial_time"}
)
"""Kinds of lost information: what a remedy may cure."""


@dataclass(frozen=True)
class Thresholds:
    """The limits that rules and charts share. Values are those of the preset `balanced`, chosen on the proving ground."""

    active_variance: float = 0.01
    """Var(mu) above which a unit is active (Burda, Grosse, Salakhutdinov 2016)."""
    information_nats: float = 0.10
    """Below this bound on I(x; z), in nats per set, latents carry nothing."""
    level_nats: float = 0.05
    """The same for one of several levels of latents."""
    shift_nats: float = 1.0
    """KL above this without information is a constant shift."""
    decoder_reliance: float = 0.02
    """Below this relative gap on swapping latents between patients, the decoder ignores them."""
    stable_margin: float = 1.3
    """Collapse counts as stable where the residuals' largest eigenvalue is below this multiple of beta: a latent that came alive
    there would carry 1/2 log of it, 0.13 nats."""
    bypass_explained: float = 0.10
    """A decoder that explains this share of the variance without any information in its latents has a path around them."""
    explained_loss: float = 0.02
    information_loss: float = 0.10
    """Units that die are missed when the share of variance explained falls by the one, and the information by this share."""
    time_share: float = 0.01
    """Below this share of within-patient variance, latents do not move in time."""
    kl_excess_per_dim: float = 10.0
    """Mean KL per dimension above this is an explosion, in nats."""
    variance_excess: float = 5.0
    """Mean posterior variance, relative to the prior's, above this is an explosion."""
    overfit_rise: float = 0.02
    overfit_fall: float = 0.01
    """Held-out reconstruction has risen by this share of all it gained, while that of training fell by the other."""
    noise: float = 2.5
    """Either has to exceed this many times the mean deviation of the figures from their running mean."""
    stagnant_gain: float = 0.02
    """Below this share of variance explained, and of gained reconstruction loss, nothing was learnt."""
    spike: float = 10.0
    """Mean deviations above the running mean at which the logarithm of the gradient norm (or the loss) is a spike."""
    spikes: float = 7.0
    """Sum over the spikes within `spike_window` steps that makes an instability: each counts by the cube of its height over the
    limit, and for six at most: two large ones, or seven small ones."""
    spike_window: int = 100
    persistence: int = 3
    """Evaluations in a row that must agree before an alarm, and before it ends."""
    settling: float = 0.10
    """Share of training, at its beginning and after a dip, in which figures still form: what is missing there needs `grace`."""
    grace: float = 0.05
    """Share of training for which information may be missing before it was ever learnt."""
    recovery: float = 0.25
    """Share of training for which information may be missing where the linear theory says that it will come."""
    minimum_patients: int = 32
    """Smaller probes prove nothing."""


PRESETS: dict[Sensitivity, Thresholds] = {
    "early": Thresholds(persistence=2, grace=0.03, settling=0.05, spikes=5.0, overfit_rise=0.01),
    "balanced": Thresholds(),
    "strict": Thresholds(
        persistence=6,
        grace=0.10,
        settling=0.15,
        information_nats=0.05,
        decoder_reliance=0.01,
        spike=15.0,
        spikes=5,
        overfit_rise=0.05,
    ),
}


@dataclass(frozen=True)
class Verdict:
    """What the rules conclude.

    `began` is the step at which the condition began, `seen` the one at which it had lasted long enough for its severity,
    `ended` the one at which it was over (None while it lasts). `dims` are latent dimensions, level-major from 0; `level`
    counts from 1. `remedies` are names of `shared.remedies`, best first.
    """

    kind: str
    severity: Severity
    title: str
    detail: str
    began: int | None = None
    seen: int | None = None
    ended: int | None = None
    evidence: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    dims: tuple[int, ...] = ()
    level: int | None = None
    cause: str = ""
    remedies: tuple[str, ...] = ()
    advice: str = ""
    """What to do, in a sentence."""
    measured: int | None = None
    """The step of the evaluation that detail and evidence are of."""

    @property
    def subject(self) -> tuple[str, int | None]:
        """What tells verdicts that hold at the same time apart."""
        return self.kind, self.level
