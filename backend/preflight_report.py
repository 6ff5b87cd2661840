"""What `preflight` says, as text."""

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.forecast import Outlook

if TYPE_CHECKING:
    from backend.preflight_figures import Preflight

LIMITS = """Limits of the forecast: a linear theory of one set at a time, of what an ideal training would end with.
- A decoder on the causal state (decoder_input state) shares latents over time: fewer nats per set, spread over more units.
- Nonlinear structure is not seen: it lets more units live. Real units also share directions until late in training.
- At small beta the nats are an upper end: the decoder's variance comes down to what theory says slowly, if at all.
- Which variables occur counts as a Gaussian with the variance of its mean share; a bypass around the latent is not seen."""


def text_of(report: "Preflight") -> str:
    """The whole report."""
    parts = [f"Preflight: {report.data} on {report.device}", *forecast_part(report), "", *cost_part(report)]
    if report.concerns:
        parts += ["", *(f"NOT READY: {concern}." for concern in report.concerns)]
    return "\n".join(parts)


def forecast_part(report: "Preflight") -> list[str]:
    """The forecast, its surroundings and its limits."""
    chosen, spectrum = report.chosen, report.spectrum
    if chosen is None or spectrum is None or report.largest_beta is None:
        return [f"No forecast: {report.no_forecast}."]
    left = f"{chosen.units} of {report.latents} units will live, with up to {chosen.nats:.3g} nats per set"
    lines = ["", f"Forecast at beta_max {report.beta_max:.3g}: {left if chosen.units else 'nothing lives: it will collapse'}."]
    if report.floor.nats:
        each = "in each dimension" if report.floor.mode == "dimension" else "per set"
        lines.append(
            f"Free bits hold {report.floor.nats:.3g} nats {each} beside that, whatever beta: active, but not on their own."
        )
    kind = "fixed" if report.decoder_variance is not None else "learned, as theory has it"
    lines += ["", f"{'beta':>10} {'units':>6} {'nats':>7}   of values + of presence   decoder variance ({kind})"]
    lines += [_line(outlook, "  <- beta_max" if outlook is chosen else "") for outlook in report.outlooks]
    return [
        *lines, f"From beta {report.largest_beta:.3g} on nothing lives.", "",
        f"From {spectrum.sets:,} sets of the training split, {spectrum.observed:.3g} values each. Values: how the measured values vary "
        "together. Presence: which variables are measured together.", LIMITS,
    ]  # fmt: skip


def _line(outlook: Outlook, mark: str) -> str:
    kinds = f"{outlook.values.units} + {outlook.presence.units}"
    return f"{outlook.beta:>10.4g} {outlook.units:>6} {outlook.nats:>7.3g}   {kinds:>23}   {outlook.decoder_variance:.3g}{mark}"


def cost_part(report: "Preflight") -> list[str]:
    """Memory, time and disk."""
    measured, totals = report.measured, report.totals
    return [
        f"Memory  {size(totals.memory_bytes)} at most, of {size(totals.memory_there_bytes)}: measured with the largest batch there can be "
        f"({measured.largest_events:,} events in {measured.largest_sets:,} sets); {measured.parameters:,} trainable parameters",
        f"Time    {duration(totals.epoch_s)} an epoch and {duration(totals.validation_s)} for its validations; {duration(totals.total_s)} in "
        f"all for {totals.steps:,} steps ({totals.epochs:.3g} epochs), {measured.step_s:.3g} s a step over {measured.steps} steps",
        f"Disk    {size(totals.disk_bytes)} at most, {size(totals.disk_free_bytes)} are free: {totals.checkpoints} checkpoints (last, "
        f"three earlier, best two, final) of {size(measured.checkpoint_bytes)}, and room for one being written; "
        f"{measured.line_bytes} bytes a step of log; "
        f"{totals.snapshots} snapshots of {size(measured.snapshot_bytes)}",
    ]  # fmt: skip


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    return f"{seconds:.2g} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))
