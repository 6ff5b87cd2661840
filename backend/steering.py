"""What all remedies share: when they act, what they aim at, which bounds they keep, and how they say what they did.

They act on any LightningModule through a few attributes, each remedy through its own:

- `beta`: the weight of the KL, a float that `training_step` reads; `beta_max`, the largest it may be (the value at the start
  unless given), and `scheduled_beta`, what it would be now without a remedy (`beta_max` unless given);
- `free_bits`: the KL floor, a float; per dimension, or per latent where `free_bits_mode` is "set";
- `encoder_parameters()`: the parameters that make the posterior;
- `decoder_logvar`: the log variance of the decoder, an `nn.Parameter` with `requires_grad=False` that the loss uses and the
  optimizer knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import lightning as L

from backend.monitor import PosteriorMetricsMonitor
from shared.collapse import Verdict
from shared.probes import number
from shared.writer import warn_on_stderr

BETA_FLOOR = 0.001
"""No remedy sets beta below this share of its largest value, nor above that value."""
KEPT = 0.75
"""Share of what there was before a collapse that a remedy aims at."""
MODEST_NATS = 4.0
"""Information aimed at where none was ever seen: how much more there is depends on the data."""
MOST_EVENTS = 40
"""A remedy tells of so many of its actions; the step log has beta anyway."""


@dataclass(frozen=True)
class Aim:
    """What counts as enough: share of active units, nats of information, and reliance of the decoder on its latents."""

    active_ratio: float
    information: float
    level_information: float
    """of each level, where there are several"""
    dims: float
    """number of units; 0 before the first evaluation"""
    target: float
    """information that a controller steers to"""
    reliance: float = 0.05

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], beta_max: float, kind: str | None = None) -> Self:
        """Three quarters of what the newest evaluation had that was well, at half of the largest beta or more.

        Where there was none: half of the units active, with a nat each, but no more than `MODEST_NATS`. Levels may be nearly
        empty, unless a lost one was the `kind` of collapse: then half a nat is asked for each unit of every level.
        """
        dims = next((number(row, "latent_dims") or 0.0 for row in rows), 0.0)
        modest = min(0.5 * max(dims, 1.0), MODEST_NATS)
        well = cls(0.5, 0.5 * modest, 0.2, dims, target=modest)
        for row in reversed(rows):
            beta, measured = number(row, "beta"), number(row, "mi_gauss") is not None
            if measured and well.met(row) and (beta is None or beta >= 0.5 * beta_max):
                level = KEPT * min(_levels(row), default=0.0) if kind == "partial_level" else 0.2
                return cls(KEPT * row["active_ratio"], KEPT * row["mi_gauss"], level, dims, target=row["mi_gauss"])
        count = len(_levels(rows[-1])) if rows else 0
        level = 0.5 * dims / count if kind == "partial_level" and count else 0.2
        return replace(well, information=modest, level_information=level)

    def met(self, row: Mapping[str, Any], factor: float = 1.0) -> bool:
        """Whether an evaluation has the units and `factor` times the nats aimed at. What was not measured is not missed."""
        active, information = number(row, "active_ratio"), number(row, "mi_gauss")
        reliance = number(row, "decoder_reliance")
        if active is None or information is None:
            return True
        return (
            active >= self.active_ratio
            and information >= factor * self.information
            and (reliance is None or reliance >= factor * self.reliance)
            and all(of_level >= factor * self.level_information for of_level in _levels(row))
        )


def _levels(row: Mapping[str, Any]) -> list[float]:
    """Information of each level, where there are several."""
    found: list[float] = []
    while (information := number(row, f"mi_gauss_level_{len(found) + 1}")) is not None:
        found.append(information)
    return found


class Remedy(L.Callback):
    """A remedy that watches the evaluations of `monitor`, which has to come before it in the list of callbacks.

    It starts with the training, or `waiting`, when `start` is called. Its state is kept in checkpoints, and a resumed run goes
    on as if nothing had happened. On several ranks all act alike, on what the watching one tells (`monitor.on_all_ranks`).
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Attributes that a module has to have."""
    remembered: ClassVar[tuple[str, ...]] = ()
    """Attributes of its own, plain values, that checkpoints keep."""

    def __init__(self, monitor: PosteriorMetricsMonitor, *, waiting: bool = False) -> None:
        self.monitor = monitor
        self.waiting = waiting
        self.began: int | None = None
        """The step after which it started."""
        self.kind: str | None = None
        """Of the collapse that it is there for, where that is known."""
        self.aim: Aim | None = None
        self.beta_max = 0.0
        self._told = 0
        self._step = -1
        self._evaluated = -1

    def begin(self, trainer: L.Trainer, module: Any) -> None:
        """What is done once, when the remedy starts."""

    def restore(self, module: Any) -> None:
        """Bring the module to where the remedy had it, when training starts or goes on."""

    def stepped(self, trainer: L.Trainer, module: Any) -> None:
        """What is done after every optimizer step."""

    def evaluated(self, trainer: L.Trainer, module: Any, row: Mapping[str, Any]) -> None:
        """What is done after every evaluation of the probe set."""

    def start(self, trainer: L.Trainer, module: Any, verdict: Verdict | None = None) -> None:
        """Begin now, because of that collapse. Does nothing when it has begun."""
        if self.began is not None:
            return
        self.began = self._step = self._evaluated = trainer.global_step
        self.beta_max = float(getattr(module, "beta_max", getattr(module, "beta", 0.0)))
        recorder = self.monitor.recorder
        assert recorder is not None
        rows, lineage = trainer.strategy.broadcast((recorder.evaluations("probe"), recorder.info.lineage))
        if verdict is not None and verdict.began is not None:
            rows = [row for row in rows if row["step"] < verdict.began] or rows[-1:]
        self.kind = verdict.kind if verdict is not None else lineage.verdict if lineage is not None else None
        self.aim = Aim.of(rows, self.beta_max, self.kind)
        self.begin(trainer, module)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start, or go on.

        Raises:
            TypeError: the module lacks what this remedy acts on; says how to have it.
        """
        if trainer.world_size > 1 and not self.monitor.on_all_ranks:
            raise TypeError(f"{self.name} works on one device, and this training runs on {trainer.world_size}")
        missing = [name for name in self.needs if not hasattr(pl_module, name)]
        if missing:
            raise TypeError(
                f"{type(pl_module).__name__} has no {' and no '.join(missing)}, which {self.name} acts on; "
                f"see the head of {__name__.replace('.', '/')}.py"
            )
        self._step = trainer.global_step
        if self.began is not None:
            self.restore(pl_module)
        elif not self.waiting:
            self.start(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Act after an optimizer step, and after an evaluation."""
        if self.began is None or trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self.stepped(trainer, pl_module)
        if self.monitor.row and self.monitor.evaluated_step > self._evaluated:
            self._evaluated = self.monitor.evaluated_step
            if self.aim is not None and not self.aim.dims:  # it began before the first evaluation
                self.aim = Aim.of([{"latent_dims": self.monitor.row.get("latent_dims")}], self.beta_max, self.kind)
            self.evaluated(trainer, pl_module, self.monitor.row)

    def tell(self, message: str, action: str, **figures: float | None) -> None:
        """One event of the run, also said aloud."""
        self._told += 1
        if self._told <= MOST_EVENTS and self.monitor.recorder is not None:
            last = "; what it does from here on is not listed any more" if self._told == MOST_EVENTS else ""
            said = f"{self.name}: {message}{last}"
            self.monitor.recorder.event("remedy", self._step, said, remedy=self.name, action=action, **figures)
            warn_on_stderr(f"step {self._step:,}: {said}", "REMEDY")

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        own = {name: getattr(self, name) for name in self.remembered}
        aim = asdict(self.aim) if self.aim is not None else None
        figures = {"beta_max": self.beta_max, "told": self._told, "evaluated": self._evaluated}
        return {"began": self.began, "kind": self.kind, "aim": aim, **figures, **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `state_dict` gave it."""
        self.began, self.kind, self.beta_max = state_dict["began"], state_dict["kind"], state_dict["beta_max"]
        self.aim = Aim(**state_dict["aim"]) if state_dict["aim"] is not None else None
        self._told, self._evaluated = state_dict["told"], state_dict["evaluated"]
        for name in self.remembered:
            setattr(self, name, state_dict[name])


def planned_beta(module: Any, beta_max: float) -> float:
    """What beta would be now without a remedy."""
    return float(getattr(module, "scheduled_beta", beta_max))


def half(beta: float, residual: float | None) -> float:
    """Half of beta, and where that leaves a collapse as stable as it was, as much less as it takes.

    By the linear theory collapsed latents gain by coming alive only where beta is below the residuals' largest eigenvalue. From
    above 1, the weight at which the objective is a bound on the likelihood, it goes there at once.
    """
    return min(0.5 * beta, 0.5 * residual if residual is not None else beta, 1.0)


def within(beta: float, beta_max: float) -> float:
    """`beta` inside the bounds that every remedy keeps."""
    return min(max(beta, BETA_FLOOR * beta_max), beta_max)
