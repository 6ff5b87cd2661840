"""Watching a posterior while it trains: a Lightning callback for any VAE."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor, nn

from backend.any_probe import VAEProbe
from backend.attach import GuestRun, Plan
from backend.latents import LatentRows, Layout, latent_rows
from backend.monitor_ranks import AcrossRanks
from backend.observe import number
from backend.recorder import RunRecorder
from backend.shards import is_sharded
from backend.snapshots import ProbeResult
from backend.stopping import StopRequested
from backend.taps import Tap, likely_heads
from backend.trainer_facts import host_of, logged_scalars
from backend.watching import Cadence, Watch, passed
from shared.cadence import EVALUATED_EVERY
from shared.collapse import Sensitivity, Verdict

PRESETS = {"standard": (EVALUATED_EVERY[False], 2000, 50), "fast": (EVALUATED_EVERY[True], 1000, 50)}
"""(update_frequency, plot_frequency, window_size)"""


class PosteriorMetricsMonitor(L.Callback):
    """Records posterior metrics at every step, probes a fixed set now and then, and says when the posterior collapses.

        Trainer(callbacks=[PosteriorMetricsMonitor(log_dir="runs/my-vae")])

    makes `runs/my-vae` a run directory the dashboard shows (with `-2`, `-3` ... appended when it holds an older run). Works with
    any LightningModule whose posterior it can see, in one of these ways:

    - `training_step` sets an attribute `posterior`: a pair (mu, logvar), or whatever `backend.latents.latent_rows` takes;
    - or it returns 'posterior', or 'mu' and 'logvar' ('log_var'), in its dictionary;
    - or `posterior_from` names the layers that put it out, of a module that is left as it is.

    A `prior` of the same form, and a `posterior_mask`, are read from the same places. All figures are relative to the prior.
    An attribute `beta`, or a logged one, is taken for the weight of the KL. Of several ranks the first is watched, or, where
    batches say what they are a share of (`Batch.whole`), all of them as one.

    Args:
        update_frequency, plot_frequency, window_size, time_budget, verbose: see `backend.watching.Cadence`.
        log_dir: where pictures go and, when no `recorder` is given, the whole run directory.
        recorder: the run to write to, when something else owns it.
        probe: evaluates a fixed probe set, such as a `backend.any_probe.VAEProbe`. Without it verdicts rest on windows of
            training batches that do not overlap: latents of one batch element count as one sample, below 32 samples the verdict
            is "insufficient data", the encoder's drift within a window adds to activity, so that a collapse shows later, never
            earlier, and nothing is known of the decoder.
        layout: "convolutional" for latents [B, C, H, W].
        posterior_from: names of the layers of mu and of logvar, such as ("model.fc_mu", "model.fc_var"), or of one layer that
            puts out both, one after the other.
        beta_warmup_steps, beta_max, sensitivity: see `backend.attach.Plan`; of the run's configuration when `recorder` is given.
        on_alarm: told of every collapse that becomes an alarm.
    """

    def __init__(
        self,
        update_frequency: int = Cadence.update_frequency,
        plot_frequency: int = Cadence.plot_frequency,
        window_size: int = Cadence.window_size,
        log_dir: str | Path | None = None,
        verbose: bool = False,
        *,
        recorder: RunRecorder | None = None,
        probe: Callable[[Any], ProbeResult] | None = None,
        time_budget: float = Cadence.time_budget,
        layout: Layout | None = None,
        posterior_from: str | Sequence[str] | None = None,
        beta_warmup_steps: int = 0,
        beta_max: float | None = None,
        sensitivity: Sensitivity = "balanced",
        on_alarm: Callable[[int, Verdict], None] = lambda step, verdict: None,
    ) -> None:
        self.cadence = Cadence(update_frequency, plot_frequency, window_size, time_budget, verbose)
        self.plan = Plan(beta_warmup_steps, beta_max, sensitivity)
        self.log_dir = Path(log_dir) if log_dir is not None else None
        self.recorder = recorder
        """The run that is written to: given, or opened when training starts."""
        self.probe = probe
        self.layout = layout
        self.posterior_from = posterior_from
        self.on_alarm = on_alarm
        self.stopped: StopRequested | None = None
        """Why training was stopped before its end."""
        self._run: GuestRun | None = None
        """A run that this callback opened. Its name is kept in checkpoints: only that run is gone on with."""
        self._watch: Watch | None = None
        self._ranks = AcrossRanks()
        self._step = 0
        self._tap: Tap | None = None
        self._state: dict[str, Any] = {}
        self._logged_beta: Any = None
        self._unread_prior = False
        """Whether it was said that the module's prior is not read."""

    @property
    def verdict(self) -> Verdict | None:
        """The most serious verdict that holds; None before training."""
        return self._watch.judging.verdict if self._watch is not None else None

    @property
    def collapse_detected_step(self) -> int | None:
        """The first step of an alarm; None while there was none."""
        return self._watch.judging.alarm_step if self._watch is not None else self._ranks.news.alarm_step

    @property
    def verdicts(self) -> list[Verdict]:
        """All that hold, the most serious first."""
        return self._watch.judging.detector.verdicts if self._watch is not None else self._ranks.news.verdicts

    @property
    def on_all_ranks(self) -> bool:
        """Whether every rank has this monitor and hears of its evaluations, as in training of this program."""
        return self.recorder is not None and self._run is None

    @property
    def row(self) -> dict[str, Any]:
        """The newest evaluation; empty before the first."""
        return self._watch.row if self._watch is not None else self._ranks.news.row

    @property
    def evaluated_step(self) -> int:
        """Of the newest evaluation."""
        return self._watch.evaluated_step if self._watch is not None else self._ranks.news.evaluated_step

    @property
    def figures(self) -> Tensor | None:
        """`SCALARS` of the newest step, on the device."""
        return self._watch.figures if self._watch is not None else self._ranks.figures

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the run, or take up the log where a resumed one left it."""
        if self.recorder is None and self.log_dir is None:
            raise ValueError("PosteriorMetricsMonitor needs log_dir, the run directory to write")
        self._step = trainer.global_step
        probe = partial(self.probe, pl_module) if self.probe is not None else None
        if self.on_all_ranks and is_sharded(pl_module):
            self._ranks.take_part = probe
        if not trainer.is_global_zero:
            return
        if isinstance(self.probe, VAEProbe):
            self.probe.check(pl_module)
        if self.posterior_from is not None:
            self._tap = Tap(pl_module, self.posterior_from, self.layout)
        if self.recorder is None:
            assert self.log_dir is not None
            host = host_of(trainer, pl_module)
            self._run = GuestRun(self.log_dir, self.plan, host, trainer.global_step, self._state.get("run"))
            self.recorder = self._run.recorder
        self._watch = Watch(
            self.recorder, self.cadence, pictures=self.log_dir if self._run is None else None,
            probe=self._ranks.leading(trainer, probe) if probe is not None else None,
            beta=partial(self._beta, pl_module), on_alarm=self.on_alarm,
        )  # fmt: skip
        self._watch.step = trainer.global_step
        self._watch.restore(self._state, pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """The window, so that a resumed run's figures go on as if nothing had happened."""
        if self._watch is None:
            return dict(self._state)
        return {**self._watch.state(), "run": self._run.name if self._run is not None else self._state.get("run")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until training starts and the device is known."""
        self._state = dict(state_dict)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lines that wait for the device go to the disk first: a checkpoint is never ahead of its run's log."""
        if self._run is not None:
            self._run.recorder.flush()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch; when the optimizer has stepped, stage its figures, and evaluate and plot when due."""
        watch, whole, step = self._watch, getattr(batch, "whole", None), trainer.global_step
        if whole is not None:
            self._ranks.add(self._latents(pl_module, outputs), whole, watch)
        elif watch is not None:
            watch.add(self._latents(pl_module, outputs), getattr(batch, "stays", None))
        if step == self._step:
            return
        before, self._step = self._step, step
        if watch is not None:
            watch.stage(self._ranks.merged if whole is not None else None)
            self._look(trainer, pl_module, outputs, batch_idx, watch)
        elif whole is not None:
            self._ranks.merged()
        if whole is not None and passed(before, step, self.cadence.update_frequency):
            self._ranks.tell(trainer, watch)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch_idx: int, watch: Watch) -> None:
        if self._run is not None:
            values = logged_scalars(trainer, pl_module, outputs, batch_idx)
            self._logged_beta = values.get("beta")
            self._run.line(trainer.global_step, values)
        watch.look(trainer.global_step)

    def _latents(self, module: L.LightningModule, outputs: Any) -> LatentRows:
        given = outputs if isinstance(outputs, Mapping) else {}
        posterior = self._tap.take() if self._tap is not None else _posterior_of(module, given)
        prior = given["prior"] if "prior" in given else self._own_prior(module)
        mask = given["posterior_mask"] if "posterior_mask" in given else getattr(module, "posterior_mask", None)
        return latent_rows(posterior, prior, mask, self.layout, f"{type(module).__name__}.posterior")

    def _beta(self, module: L.LightningModule) -> float | None:
        own = number(getattr(module, "beta", None))
        return own if own is not None else number(self._logged_beta)

    def _own_prior(self, module: L.LightningModule) -> Any:
        """The attribute `prior` where that is one; a network that makes one is not, and that is said."""
        prior = getattr(module, "prior", None)
        if not (isinstance(prior, nn.Module) or callable(prior)):
            return prior
        if not self._unread_prior and self._watch is not None:
            self._watch.recorder.warn(
                f"{type(module).__name__}.prior is a {type(prior).__name__} and is not read: figures are relative to N(0, I), "
                "unless training_step returns the prior of its latents as 'prior': (mu, logvar) in its dictionary"
            )
        self._unread_prior = True
        return None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate once more, so that also a run of few steps ends with a verdict."""
        if self._watch is not None:
            self._watch.finish()
        if self._ranks.take_part is not None:
            self._ranks.tell(trainer, self._watch)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close a run that this callback opened."""
        self._close(self.stopped)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close a run that this callback opened, with what went wrong."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self._tap is not None:
            self._tap.close()
            self._tap = None
        if self._run is not None:
            self._state = self.state_dict()
            self._run.end(error)
            self._run = self.recorder = None


def _posterior_of(module: L.LightningModule, given: Mapping[str, Any]) -> Any:
    """What a module exposes as its posterior. Raises TypeError when that is nothing; says how to."""
    if "posterior" in given:
        return given["posterior"]
    logvar = given.get("logvar", given.get("log_var"))
    if logvar is not None and "mu" in given:
        return given["mu"], logvar
    posterior = getattr(module, "posterior", None)
    if posterior is None or isinstance(posterior, nn.Module):
        heads = likely_heads(module)
        example = f"posterior_from=({', '.join(map(repr, heads)) or repr('encoder.mu') + ', ' + repr('encoder.logvar')})"
        raise TypeError(
            f"{type(module).__name__} exposes no posterior: set `self.posterior = (mu, logvar)`, two tensors [..., D], in "
            f"training_step, return them as 'mu' and 'logvar' in its dictionary, or name its layers, as in {example}"
        )
    return posterior
