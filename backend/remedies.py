"""The remedies by name: opt-in callbacks that act on a collapse, within bounds, each action an event of the run.

    monitor = PosteriorMetricsMonitor(log_dir="runs/my-vae")
    Trainer(callbacks=[monitor, remedy("beta_cut", monitor)])

What they ask of a module stands at the head of backend/steering.py.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
from torch import nn

from backend.aggressive import AggressiveEncoder
from backend.beta_control import BetaCut, CyclicalBeta, PiControl
from backend.monitor import PosteriorMetricsMonitor
from backend.steering import Remedy
from shared.config import TrainConfig
from shared.errors import InputError
from shared.remedies import remedy_named, remedy_of


class FreeBits(Remedy):
    """Raises the KL floor, at most `MOST` nats per unit, while the aim is missed: doubled at each such evaluation."""

    name = "free_bits"
    needs = ("free_bits",)
    remembered = ("floor",)
    FIRST, MOST = 0.05, 1.0

    floor = 0.0
    """In nats per unit."""

    def begin(self, trainer: L.Trainer, module: Any) -> None:
        """A first floor, where a collapse was what started this."""
        if self.waiting:
            self._raise(module)

    def restore(self, module: Any) -> None:
        """The floor as it was."""
        if self.floor:
            module.free_bits = max(float(module.free_bits), self.floor * self._units(module))

    def evaluated(self, trainer: L.Trainer, module: Any, row: Mapping[str, Any]) -> None:
        """Higher, where it is not enough."""
        assert self.aim is not None
        if not self.aim.met(row):
            self._raise(module)

    def _raise(self, module: Any) -> None:
        before, now = float(module.free_bits), min(max(self.FIRST, 2 * self.floor), self.MOST)
        if now == self.floor:
            return
        self.floor = now
        self.restore(module)
        after = float(module.free_bits)
        if after > before:
            self.tell(f"floor raised from {before:.3g} to {after:.3g} nats", "raise", before=before, free_bits=after)

    def _units(self, module: Any) -> float:
        """A floor on a whole latent is as many times one on a unit."""
        assert self.aim is not None
        return self.aim.dims if getattr(module, "free_bits_mode", "dimension") == "set" else 1.0


class LearnedVariance(Remedy):
    """Lets the optimizer move the decoder's log variance, which was fixed."""

    name = "learned_variance"
    needs = ("decoder_logvar",)

    def begin(self, trainer: L.Trainer, module: Any) -> None:
        """Free it."""
        self.restore(module)
        self.tell(
            "the decoder's variance is learned from here on", "begin", logvar=float(module.decoder_logvar.detach().mean())
        )

    def restore(self, module: Any) -> None:
        """Free it.

        Raises:
            TypeError: no parameter.
        """
        logvar = module.decoder_logvar
        if not isinstance(logvar, nn.Parameter):
            raise TypeError(f"{type(module).__name__}.decoder_logvar has to be an nn.Parameter that the optimizer was given")
        logvar.requires_grad_(True)


BY_NAME: dict[str, type[Remedy]] = {
    kind.name: kind for kind in (BetaCut, PiControl, CyclicalBeta, FreeBits, AggressiveEncoder, LearnedVariance)
}


def remedy(name: str, monitor: PosteriorMetricsMonitor, *, waiting: bool = False, target: float | None = None) -> Remedy:
    """The remedy of that name, for the callbacks of a trainer, after `monitor`. Raises ValueError for another name.

    `target` is what pi_control steers to, in nats per latent.
    """
    if remedy_named(name) == PiControl.name:
        return PiControl(monitor, waiting=waiting, target=target)
    return BY_NAME[name](monitor, waiting=waiting)


def check_remedies(config: TrainConfig) -> None:
    """Refuse what could not act.

    Raises:
        InputError: names the option and the reason.
    """
    options = config.monitor
    name = options.remedy or remedy_of(options.on_collapse)
    if name is None and options.on_collapse == "warn":
        return
    what = f"monitor.remedy: {name}" if options.remedy else f"monitor.on_collapse: {options.on_collapse}"
    if options.disable_metrics_monitoring or config.trainer.stage == "finetune":
        reason = "fine-tuning has no posterior to watch" if config.trainer.stage == "finetune" else "monitoring is off"
        raise InputError(f"{what} acts on what the monitor sees, and {reason}")
    ranks = config.trainer.devices * config.trainer.num_nodes
    if name == AggressiveEncoder.name and ranks > 1:
        raise InputError(f"{what} works on one device, and this training has {ranks}; take beta_cut, pi_control or free_bits")
    if name == "learned_variance":
        reason = (
            "the Chamfer loss is no likelihood and has no variance to learn"
            if config.model.decoder == "chamfer"
            else "the likelihood decoder of SeqSetVAE learns its variance per value already"
        )
        raise InputError(f"{what}: {reason}; take beta_cut or pi_control")
