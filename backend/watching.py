"""Watching a posterior while it trains, whoever trains it: figures of each step, evaluations when due, verdicts, pictures."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.judging import Judging
from backend.latents import LatentRows
from backend.posterior import SCALARS, Moments, Step, Window, level_figures, scalars
from backend.probe_row import totals
from backend.recorder import RunRecorder
from backend.snapshots import ProbeResult, write_snapshots
from shared.collapse import Thresholds, Verdict

STEP_FIGURES = frozenset({*SCALARS, "sets", "active_units", "active_ratio", "step_s"})
"""What a line of the step log says of the posterior; a scalar of somebody else's by such a name is kept as `logged_...`."""

SHORT_RUN_S = 10.0
"""Seconds that evaluations may take in any case, spread over the planned steps: their share of a short run buys no verdict."""

KEPT_NUMBERS = 4_000_000
"""A larger window (32 MB in float64, 20,000 units) stays out of checkpoints and fills anew after a resume."""


@dataclass(frozen=True)
class Cadence:
    """How often a posterior is looked at, in optimizer steps."""

    update_frequency: int = 200
    """between evaluations, as far as the time budget allows"""
    plot_frequency: int = 2000
    """between four-panel pictures"""
    window_size: int = 50
    """pooled for active units, and for evaluations where there is no probe"""
    time_budget: float = 0.02
    """largest share of the training time that probes may take, of which a short run has `SHORT_RUN_S` in any case"""
    verbose: bool = False
    """also print every evaluation"""
    chosen: bool = True
    """`update_frequency` is somebody's wish: it is said where it cannot be kept. Otherwise only where it is more than usual."""


class Watch:
    """The posterior of one run: what `PosteriorMonitor` and the Lightning callback have in common. Knows no trainer.

    For every optimizer step: `add` its batches, `stage` its figures, commit the line, `look`.
    """

    def __init__(
        self,
        recorder: RunRecorder,
        cadence: Cadence,
        *,
        pictures: Path | None = None,
        probe: Callable[[], ProbeResult] | None = None,
        beta: Callable[[], float | None] = lambda: None,
        on_alarm: Callable[[int, Verdict], None] = lambda step, verdict: None,
    ) -> None:
        self.recorder = recorder
        self.cadence = cadence
        self.probe = probe
        self.beta = beta
        """The weight of the KL as it is now; None where unknown."""
        self.pictures = pictures or recorder.layout.plots
        self.judging = Judging(recorder, on_alarm)
        recorder.on_line = self.judging.line
        self.window = Window(cadence.window_size)
        self.step = recorder.beat.step
        self.figures: Tensor | None = None
        """`SCALARS` of the newest step, on the device."""
        self.row: dict[str, Any] = {}
        """The newest evaluation."""
        self.evaluated_step = self.step
        self._in_hand = Step()
        self._samples = 0
        self._levels: tuple[int, ...] | None = None
        self._since_window = cadence.window_size
        """Steps added since the last evaluation of a window: windows do not overlap."""
        self._probe_s = 0.0
        self._probes = self._steps = 0
        """Probes made and steps taken by this process."""
        self._said_put_off = False
        self._began = time.monotonic()

    def state(self) -> dict[str, Any]:
        """The window, for a checkpoint; nothing where it is so large that it would weigh on every one of them."""
        window = self.window.state_dict()
        return window if window["ring"] is None or window["ring"].numel() <= KEPT_NUMBERS else {}

    def restore(self, window: dict[str, Any], device: torch.device) -> None:
        """Go on with the window of an interrupted run, as `state` gave it, as if nothing had happened."""
        if "ring" in window:
            self.window.load_state_dict(window, device)

    def add(self, latents: LatentRows, samples: int | None = None) -> None:
        """Take in one batch of the step in hand, of so many independent samples; one without a latent does not count."""
        if not len(latents.rows[0]):
            return
        if self._levels is None:
            self._levels = latents.levels
        elif self._levels != latents.levels:
            raise ValueError(
                f"latents have {_units(latents.levels)} units now and had {_units(self._levels)} before; the units of a run are "
                "fixed. For maps of several sizes hand over a pooled one, or, with layout='vectors', [B, H, W, C]"
            )
        self._in_hand.add(latents.rows)
        self._samples += latents.samples if samples is None else samples

    def stage(self, merged: Callable[[Moments | None], Moments] | None = None) -> None:
        """The optimizer has stepped: put the figures of its latents, `merged` with those of other ranks, into the line to come."""
        moments = self._in_hand.take()
        if merged is not None:
            moments = merged(moments)
        if moments is None:
            return
        self.window.add(moments, self._samples)
        self._samples = 0
        self._since_window += 1
        put = self.recorder.put
        self.figures = scalars(moments)
        self.recorder.put_all(SCALARS, self.figures)
        put("sets", moments.n)
        active = self.window.active() if self.window.stays >= Thresholds.minimum_patients else None
        put("active_units", active)
        put("active_ratio", active / moments.mean_mu.shape[0] if active is not None else None)

    def look(self, step: int) -> None:
        """After the line of `step`: evaluate and draw when it is time, also where steps are left out."""
        started, before, self.step = time.monotonic(), self.step, step
        self._steps += step - before
        every, size = self.cadence.update_frequency, self.cadence.window_size
        if self.probe is not None and passed(before, step, every):
            self._run_probe(self.probe)
        elif self.probe is None and passed(before, step, max(every, size)) and self._since_window >= size:
            self._judge_window()
        if passed(before, step, self.cadence.plot_frequency):
            self._plot()
        self.recorder.paused_s += time.monotonic() - started

    def finish(self) -> None:
        """Evaluate once more, so that also a run of few steps ends with a verdict."""
        if self.step == self.evaluated_step:
            return
        if self.probe is not None:
            self._run_probe(self.probe, last=True)
        elif self.window.n:
            self._judge_window()

    def _run_probe(self, probe: Callable[[], ProbeResult], last: bool = False) -> None:
        """Probe, write the snapshots, judge. Left out when earlier probes have used up the budget, but for the last."""
        started = time.monotonic()
        if not last and self._probe_s > self._allowed_s(started - self._began):
            self._tell_put_off(started - self._began)
            return
        phase, self.recorder.beat.phase = self.recorder.beat.phase, "probing"
        result = probe()
        write_snapshots(self.recorder, self.step, result)
        spent = time.monotonic() - started
        self._probe_s += spent
        self._probes += 1
        self.recorder.beat.phase = phase
        self._judge({**result.values, "probe_s": spent})

    def _allowed_s(self, elapsed: float) -> float:
        """What probes may have taken by now."""
        planned = self.recorder.beat.max_steps
        return max(self.cadence.time_budget * elapsed, SHORT_RUN_S * min(self._steps / planned, 1.0) if planned else 0.0)

    def _tell_put_off(self, elapsed: float) -> None:
        """Say once, in the log and aloud, that evaluations come less often than was asked, how often, and what would change it."""
        if self._said_put_off:
            return
        every, budget, planned = self.cadence.update_frequency, self.cadence.time_budget, self.recorder.beat.max_steps
        probe_s = self._probe_s / max(self._probes, 1)
        step_s = max(elapsed - self._probe_s, 1e-9) / max(self._steps, 1)
        share = probe_s / (probe_s + every * step_s)
        steps = probe_s * (1 / budget - 1) / step_s
        if planned:
            steps = min(steps, planned * probe_s / SHORT_RUN_S)
        steps = every * max(2, math.ceil(steps / every))
        if not self.cadence.chosen and steps <= Cadence.update_frequency:
            return
        self._said_put_off = True
        self.recorder.warn(
            f"evaluations every {every:,} steps would take {share:.0%} of the time, so they come about every {steps:,}; "
            f"a time budget of {max(math.ceil(100 * share), 1) / 100:g} (--probe_time_budget, now {budget:g}) allows more"
        )

    def _judge_window(self) -> None:
        """Without a probe the training batches of the last window stand in for it."""
        moments = self.window.moments()
        self._since_window = 0
        self._judge(
            {
                **totals(moments),
                **level_figures(moments, self._levels or ()),
                "patients": self.window.stays,
                "source": "training window",
            }
        )

    def _judge(self, values: dict[str, Any]) -> None:
        self.evaluated_step = self.step
        self.row = values = {"beta": self.beta(), **values}
        self.recorder.evaluation("probe", self.step, values)
        self.judging.add(self.step, values)
        if self.cadence.verbose:
            shown = " ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, int | float))
            print(f"\nstep {self.step:,} probe: {shown}", file=sys.stderr)

    def _plot(self) -> None:
        from backend.plots import four_panels

        started = time.monotonic()
        self.recorder.flush()
        try:
            self.pictures.mkdir(parents=True, exist_ok=True)
            four_panels(self.recorder.layout, self.pictures / f"posterior-{self.step:09d}.png")
        except OSError as error:
            self.recorder.warn(f"picture of step {self.step} not written: {error}", "pictures")
        self._probe_s += time.monotonic() - started


def passed(before: int, step: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, step]."""
    return step // every > before // every


def _units(levels: tuple[int, ...]) -> str:
    return " + ".join(f"{size:,}" for size in levels)
