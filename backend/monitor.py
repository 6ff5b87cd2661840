"""Watching a posterior while it trains: a Lightning callback for any VAE."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from backend.loss import Gaussian
from backend.posterior import ACTIVE_VARIANCE, SCALARS, Moments, scalars
from backend.recorder import RunRecorder
from shared.collapse import Thresholds, Verdict, judge
from shared.layout import RunLayout
from shared.schema import RunInfo, RunState
from shared.writer import warn_on_stderr

PRESETS = {"standard": (200, 2000, 50), "fast": (100, 1000, 50)}
"""(update_frequency, plot_frequency, window_size)"""


@dataclass(frozen=True)
class ProbeResult:
    """One evaluation of the fixed probe set: totals for the log, and frames for the snapshots (see `shared.layout`)."""

    values: dict[str, Any]
    posterior: pd.DataFrame
    latents: pd.DataFrame
    reconstruction: pd.DataFrame


@dataclass
class Window:
    """Sums of mu and mu^2 over the last steps, for active units from more than one small batch.

    Kept in float64, where removing the oldest step loses nothing; a cumulative variance since step 0 would count the
    encoder's drift as activity.
    """

    size: int
    steps: deque[tuple[int, int, Tensor, Tensor]] = field(default_factory=deque)
    n: int = 0
    stays: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None

    def add(self, moments: Moments, stays: int) -> None:
        """Take in one step; the oldest leaves when there are more than `size`."""
        mean = moments.mean_mu.double()
        first, second = mean * moments.n, moments.m2_mu.double() + mean.square() * moments.n
        self.steps.append((moments.n, stays, first, second))
        self.total = first if self.total is None else self.total + first
        self.squares = second if self.squares is None else self.squares + second
        self.n, self.stays = self.n + moments.n, self.stays + stays
        if len(self.steps) > self.size:
            n, old, first, second = self.steps.popleft()
            self.n, self.stays = self.n - n, self.stays - old
            self.total, self.squares = self.total - first, self.squares - second

    def active(self) -> Tensor:
        """Number of dimensions with unbiased Var(mu) above 0.01, a scalar on the device."""
        assert self.total is not None and self.squares is not None
        variance = (self.squares - self.total.square() / self.n) / max(self.n - 1, 1)
        return (variance > ACTIVE_VARIANCE).sum()


class PosteriorMetricsMonitor(L.Callback):
    """Records posterior metrics at every step, probes a fixed set now and then, and says when the posterior collapses.

    Works with any LightningModule that, after `training_step`, has either

    - an attribute `posterior`: a pair (mu, logvar), each [..., D] (and, if the prior is not N(0, I), `prior` likewise), or
    - `mu` and `logvar` among the values that `training_step` returns.

    An attribute `posterior_mask` [...], True where a latent is observed, leaves padding out. For a module of your own:

        class MyVAE(L.LightningModule):
            def training_step(self, batch, batch_idx):
                mu, logvar = self.encoder(batch)
                self.posterior = (mu, logvar)
                ...
        Trainer(callbacks=[PosteriorMetricsMonitor(log_dir="runs/my-vae")])

    That makes `runs/my-vae` a run directory the dashboard shows. Give `probe` (module -> ProbeResult) for snapshots over a
    fixed set; without it verdicts rest on the window of training batches.

    Args:
        update_frequency: optimizer steps between probe evaluations, as far as the time budget allows.
        plot_frequency: optimizer steps between four-panel pictures.
        window_size: optimizer steps pooled for active units.
        log_dir: where pictures go and, when no `recorder` is given, the whole run directory.
        verbose: also print every probe evaluation.
        recorder: the run to write to, when something else owns it.
        probe: evaluates the fixed probe set.
        time_budget: largest share of the training time that probes may take.
        warmup_steps: steps of beta warm-up; low information in their first fifth is no alarm.
    """

    def __init__(
        self,
        update_frequency: int = 200,
        plot_frequency: int = 2000,
        window_size: int = 50,
        log_dir: str | Path | None = None,
        verbose: bool = False,
        *,
        recorder: RunRecorder | None = None,
        probe: Callable[[L.LightningModule], ProbeResult] | None = None,
        time_budget: float = 0.02,
        warmup_steps: int = 0,
    ) -> None:
        self.update_frequency = update_frequency
        self.plot_frequency = plot_frequency
        self.window_size = window_size
        self.log_dir = Path(log_dir) if log_dir is not None else None
        self.verbose = verbose
        self.recorder = recorder
        self.probe = probe
        self.time_budget = time_budget
        self.warmup_steps = warmup_steps
        self.verdict: Verdict | None = None
        self.collapse_detected_step: int | None = None
        self._owns_recorder = recorder is None
        self._window = Window(window_size)
        self._moments: Moments | None = None
        self._stays = 0
        self._step = 0
        self._probes: list[dict[str, Any]] = []
        self._probe_s = 0.0
        self._began = 0.0
        self._snapshots_failed = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the log where a resumed run left it."""
        if self.recorder is None:
            if self.log_dir is None:
                raise ValueError("PosteriorMetricsMonitor needs log_dir, the run directory to write")
            self.log_dir.mkdir(parents=True, exist_ok=True)
            info = RunInfo(name=self.log_dir.name, config={}, device=str(pl_module.device))
            self.recorder = RunRecorder(RunLayout(self.log_dir), info)
            self.recorder.begin(trainer.global_step)
        self._step = trainer.global_step
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch; when the optimizer has stepped, stage its figures, and probe and plot when due."""
        self._add(self._moments_of(pl_module, outputs), batch)
        if trainer.global_step == self._step or self._moments is None:
            return
        self._step = trainer.global_step
        self._stage()
        if self._owns_recorder:
            self._commit_foreign(trainer, outputs)
        if self._step % self.update_frequency == 0:
            self._evaluate(pl_module)
        if self._step % self.plot_frequency == 0:
            self._plot()

    def _moments_of(self, pl_module: L.LightningModule, outputs: Any) -> Moments:
        posterior = getattr(pl_module, "posterior", None)
        if posterior is None and isinstance(outputs, Mapping) and {"mu", "logvar"} <= outputs.keys():
            posterior = (outputs["mu"], outputs["logvar"])
        if posterior is None:
            raise TypeError(
                f"{type(pl_module).__name__} exposes no posterior: set `self.posterior = (mu, logvar)` in training_step, "
                "or return 'mu' and 'logvar' from it"
            )
        prior = getattr(pl_module, "prior", None)
        given = Gaussian(*prior) if isinstance(prior, tuple) else None
        mu, logvar = posterior
        return Moments.of(mu, logvar, given, getattr(pl_module, "posterior_mask", None))

    def _add(self, moments: Moments, batch: Any) -> None:
        self._moments = moments if self._moments is None else self._moments.merge(moments)
        self._stays += getattr(batch, "stays", moments.n)

    def _stage(self) -> None:
        assert self.recorder is not None and self._moments is not None
        moments, self._moments = self._moments, None
        self._window.add(moments, self._stays)
        self._stays = 0
        self.recorder.put_all(SCALARS, scalars(moments))
        self.recorder.put("sets", moments.n)
        enough = self._window.stays >= Thresholds.minimum_patients
        active = self._window.active() if enough else None
        self.recorder.put("active_units", active)
        self.recorder.put("active_ratio", active / moments.mean_mu.shape[0] if active is not None else None)

    def _commit_foreign(self, trainer: L.Trainer, outputs: Any) -> None:
        assert self.recorder is not None
        if isinstance(outputs, Mapping):
            for name, value in outputs.items():
                if isinstance(value, Tensor) and value.numel() == 1:
                    self.recorder.put(name, value)
        self.recorder.commit(trainer.global_step)

    def _evaluate(self, pl_module: L.LightningModule) -> None:
        """Probe, write the snapshots, judge. Left out when earlier probes have used up the budget."""
        assert self.recorder is not None
        elapsed = time.monotonic() - self._began
        if self.probe is None or self._probe_s > self.time_budget * elapsed:
            return
        phase, self.recorder.beat.phase = self.recorder.beat.phase, "probing"
        started = time.monotonic()
        result = self.probe(pl_module)
        self._snapshot(result)
        spent = time.monotonic() - started
        self._probe_s += spent
        self.recorder.beat.phase = phase
        values = {**result.values, "probe_s": spent}
        self.recorder.evaluation("probe", self._step, values)
        self._judge({"step": self._step, **values})
        if self.verbose:
            shown = " ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, int | float))
            print(f"\nstep {self._step:,} probe: {shown}", file=sys.stderr)

    def _snapshot(self, result: ProbeResult) -> None:
        assert self.recorder is not None
        layout = self.recorder.layout
        try:
            for frame, path in (
                (result.posterior, layout.posterior(self._step)),
                (result.latents, layout.latents(self._step)),
                (result.reconstruction, layout.reconstruction(self._step)),
            ):
                path.parent.mkdir(exist_ok=True)
                temporary = path.with_suffix(".tmp")
                frame.to_parquet(temporary, index=False)
                temporary.replace(path)
            self._snapshots_failed = False
        except OSError as error:
            if not self._snapshots_failed:
                warn_on_stderr(f"snapshot of step {self._step} not written: {error}. Training goes on.")
            self._snapshots_failed = True

    def _judge(self, row: dict[str, Any]) -> None:
        """Judge all probes so far; a verdict that changed becomes an event, and an alarm is also said aloud."""
        assert self.recorder is not None
        self._probes.append(row)
        verdict = judge(self._probes, self.warmup_steps)
        before, self.verdict = self.verdict, verdict
        if before is not None and (before.kind, before.severity) == (verdict.kind, verdict.severity):
            return
        self.recorder.event(
            "verdict", self._step, f"{verdict.title}: {verdict.detail}", verdict=verdict.kind, severity=verdict.severity,
            began=verdict.began, evidence=verdict.evidence, remedy=verdict.remedy,
        )  # fmt: skip
        if verdict.severity == "alarm":
            self.collapse_detected_step = self._step
            warn_on_stderr(
                f"step {self._step:,}: {verdict.title} since step {verdict.began:,}. {verdict.detail} {verdict.remedy or ''}"
            )

    def _plot(self) -> None:
        from backend.plots import four_panels

        assert self.recorder is not None
        self.recorder.flush()
        folder = self.log_dir if self.log_dir is not None and not self._owns_recorder else self.recorder.layout.plots
        try:
            folder.mkdir(parents=True, exist_ok=True)
            four_panels(self.recorder.layout, folder / f"posterior-{self._step:09d}.png")
        except OSError as error:
            warn_on_stderr(f"picture of step {self._step} not written: {error}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close a run that this callback opened."""
        if self._owns_recorder and self.recorder is not None:
            self.recorder.end(RunState.FINISHED)
            self.recorder = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close a run that this callback opened, with what went wrong."""
        if self._owns_recorder and self.recorder is not None:
            stopped = isinstance(exception, KeyboardInterrupt)
            self.recorder.end(RunState.INTERRUPTED if stopped else RunState.FAILED, None if stopped else repr(exception))
            self.recorder = None


def probe_moments(mu: Tensor, logvar: Tensor, prior: Gaussian | None) -> tuple[Moments, dict[str, Any]]:
    """Moments of a probe set and its totals by the names of `shared.metrics.PROBE`; non-finite ones are named."""
    moments = Moments.of(mu, logvar, prior)
    values: dict[str, Any] = dict(zip(SCALARS, scalars(moments).tolist(), strict=True))
    active = int(moments.active.sum())
    values |= {"active_units": active, "active_ratio": active / mu.shape[-1], "latent_dims": mu.shape[-1], "sets": moments.n}
    if not bool(torch.isfinite(mu).all() and torch.isfinite(logvar).all()):
        values["nonfinite"] = ["posterior"]
    return moments, values
