"""What is known of one run or one TensorBoard log, gathered for a report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backend.tensorboard_logs import ScalarLog, read_log
from backend.tensorboard_tags import Tags, read_tags
from backend.tensorboard_verdicts import by_total_loss, floor_note, judge_scalars, unjudged, verdicts_of
from shared.collapse import PRESETS, SEVERITIES, Sensitivity, Thresholds, Verdict
from shared.errors import InputError
from shared.forecast import Floor, forecast, unforeseen
from shared.layout import RunLayout
from shared.probes import number
from shared.reader import Health, each_row, read_record, read_status
from shared.schedule import BetaSchedule
from shared.schema import RunInfo
from shared.verdicts import NOTHING_YET, VerdictLog, replay_run, unwatched

FIGURES = (
    "kl", "mi_gauss", "mi_mc", "prior_gap", "active_units", "latent_dims", "posterior_variance", "decoder_reliance", "explained",
    "residual_eigenvalue", "beta", "recon", "patients",
)  # fmt: skip
NEEDED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("mi_gauss",), "collapse and constant shift"),
    (("decoder_reliance",), "a decoder that ignores its latents"),
    (("explained", "residual_eigenvalue"), "the likely cause of a collapse, and units that are missed"),
    (("beta",), "whether beta was raised"),
    (("var_within",), "latents that do not move in time"),
    (("recon",), "stagnation and overfitting"),
)
"""Names of a probe row without which something cannot be judged."""


@dataclass(frozen=True)
class Diagnosis:
    """A report on one source, as data."""

    source: str
    kind: str
    """run or tensorboard"""
    state: str
    step: int
    """The last that was seen."""
    verdicts: list[Verdict]
    """What holds, the most serious first."""
    past: list[Verdict]
    """What was alarmed or warned of, and is over."""
    figures: dict[str, float] = field(default_factory=dict)
    """Of the newest evaluation, that at step `measured`; of a log the last of each, and `measured` is None."""
    measured: int | None = None
    forecast: str | None = None
    unjudged: list[tuple[str, str]] = field(default_factory=list)
    """(what, why)"""
    notes: list[str] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    """Remedy to the command that goes on with it."""
    tags: dict[str, str] = field(default_factory=dict)
    """Of a TensorBoard log: what was read as what."""
    unused: list[str] = field(default_factory=list)
    """Its other tags."""

    @property
    def severity(self) -> str:
        """alarm, warning, ok, or insufficient where nothing is known for or against."""
        worst = min((v.severity for v in self.verdicts), key=SEVERITIES.index)
        if worst in ("alarm", "warning"):
            return worst
        return "ok" if any(v.kind == "healthy" for v in self.verdicts) else "insufficient"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "severity": self.severity, "unjudged": [{"what": w, "why": y} for w, y in self.unjudged]}


def diagnose_run_folder(path: Path, sensitivity: Sensitivity | None = None) -> Diagnosis:
    """The report on a run directory, whatever state it is in.

    Raises:
        InputError: its run.json cannot be read, or another sensitivity is asked of a run that was imported.
    """
    layout = RunLayout(path)
    info = read_record(layout.run_json, RunInfo)
    if info.imported is not None:
        if sensitivity is not None:
            raise InputError(
                f"--sensitivity {sensitivity}: {path} was judged when it was imported; diagnose its log itself: "
                f"python -m backend diagnose {info.imported.path} --sensitivity {sensitivity}"
            )
        return _diagnose_imported(layout, info)
    detector = replay_run(layout, sensitivity)
    status = read_status(layout)
    last = _last_probe(layout)
    steps = max((int(row["step"]) for row in each_row(layout.metrics)), default=0)
    off = unwatched(info.config)
    found = [off if v is NOTHING_YET and off else v for v in detector.verdicts]
    return Diagnosis(
        source=str(path), kind="run", state=status.health.value, step=max(steps, int(last.get("step", 0))), verdicts=found,
        past=[v for v in detector.past if v.severity in ("alarm", "warning")],
        figures={name: value for name in FIGURES if (value := number(last, name)) is not None}, measured=last.get("step"),
        forecast=_forecast(layout, info, last), unjudged=_unjudged_of(last) if not off else [],
        notes=_notes(info, status.health, status.reason, last), commands=_commands(path, info, found),
    )  # fmt: skip


def _diagnose_imported(layout: RunLayout, info: RunInfo) -> Diagnosis:
    """What the scalars of its log showed when they were imported: rows that hold scalars alone cannot be judged like a probe's."""
    assert info.imported is not None
    told, status, steps = VerdictLog(), read_status(layout), 0
    damaged = [f"events.jsonl: {problem}." for event in each_row(layout.events) if (problem := told.take(event))]
    figures: dict[str, float] = {}
    for row in each_row(layout.metrics):
        steps = int(row["step"])
        figures |= {name: value for name in FIGURES if (value := number(row, name)) is not None}
    tags, mean_over = info.imported.tags, info.imported.kl_mean_over
    return Diagnosis(
        source=str(layout.root), kind="run", state=status.health.value, step=steps, verdicts=told.verdicts(info.config),
        past=[v for v in told.past if v.severity in ("alarm", "warning")], figures=figures,
        unjudged=unjudged(Tags(tags, ()), mean_over), tags=dict(tags),
        notes=[f"Imported from the TensorBoard log {info.imported.path}; judged as it was imported, by its scalars.", *damaged],
    )  # fmt: skip


def _last_probe(layout: RunLayout) -> Mapping[str, Any]:
    last: Mapping[str, Any] = {}
    for row in each_row(layout.evaluations):
        last = row if row.get("kind") == "probe" else last
    return last


def _forecast(layout: RunLayout, info: RunInfo, last: Mapping[str, Any]) -> str | None:
    """What will be, or why that cannot be said; and then what the trainer foretold last, if it did."""
    if not last:
        return None
    schedule = BetaSchedule.of(info.config)
    made = forecast(last, schedule, floor=Floor.of(info.config))
    if made is not None:
        return made.sentence
    told = [event for event in each_row(layout.events) if event.get("kind") == "forecast" and "message" in event]
    before = f" Foretold at step {told[-1]['step']:,}: {told[-1]['message']}" if told else ""
    active, kl = number(last, "active_units"), number(last, "kl")
    if told and active is not None and kl is not None:
        before += f" Now {active:.0f} are active, with {kl:.3g} nats per set."
    return f"None. {unforeseen(last, schedule)}{before}"


def _unjudged_of(last: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not last:
        return [("the posterior", "no probe evaluation was written")]
    if (number(last, "patients") or 0) < Thresholds.minimum_patients:
        return [("the posterior", f"the probe has fewer than {Thresholds.minimum_patients} patients")]
    found = []
    for names, what in NEEDED:
        missing = [name for name in names if number(last, name) is None]
        if missing:
            found.append((what, f"the newest evaluation has no {' and no '.join(missing)}"))
    if not isinstance(last.get("per_dim"), Mapping):
        found.append(("units that died one by one", "the newest evaluation has no figures per dimension"))
    return found


def _notes(info: RunInfo, health: Health, reason: str | None, last: Mapping[str, Any]) -> list[str]:
    found = [reason] if reason else []
    if last.get("source"):
        found.append(f"Evaluations are of a {last['source']}, not of a fixed probe set: a collapse shows later there.")
    if number(last, "probe_from_train"):
        found.append(
            f"{last['probe_from_train']} of the probe patients are from the training split: held-out ones may look worse."
        )
    if health is Health.RUNNING:
        found.append("The run goes on: stop it (Ctrl-C) before it is resumed with a remedy.")
    if info.dataset is not None and info.dataset.simulated:
        found.append("The data are simulated.")
    return found


def _commands(path: Path, info: RunInfo, found: list[Verdict]) -> dict[str, str]:
    """Runs of a trainer that is not ours have nothing to resume here."""
    if "data" not in info.config:
        return {}
    serious = [verdict for verdict in found if verdict.severity in ("alarm", "warning")]
    names = dict.fromkeys(name for verdict in serious for name in verdict.remedies)
    return {name: f"python -m backend resume {path} --remedy {name}" for name in names}


def diagnose_tensorboard(
    path: Path, sensitivity: Sensitivity | None = None, given: Mapping[str, str] | None = None, mean_over: int | None = None
) -> Diagnosis:
    """The report on one folder of event files, as far as its scalars go.

    Raises:
        InputError: nothing in it can be read, or `given` names what there is not.
    """
    log = read_log(path)
    tags = read_tags({tag: len(values) for tag, values in log.scalars.items()}, given)
    return diagnose_log(log, tags, sensitivity, mean_over)


def diagnose_log(log: ScalarLog, tags: Tags, sensitivity: Sensitivity | None = None, mean_over: int | None = None) -> Diagnosis:
    """The report on scalars that have been read."""
    detector = judge_scalars(log, tags, PRESETS[sensitivity or "balanced"], mean_over)
    notes = [*log.notes, *([note] if (note := floor_note(log, tags)) else [])]
    if by_total_loss(tags):
        notes.append("There is no held-out reconstruction loss: overfitting is judged by the total losses.")
    if "active_units" in tags.used:
        notes.append(
            f"{tags.used['active_units']} is shown, not judged: a count of variances above 0.01 would read full at total collapse."
        )
    return Diagnosis(
        source=str(log.path), kind="tensorboard", state="logged", step=log.last_step, verdicts=verdicts_of(detector, log, tags, mean_over),
        past=[v for v in detector.past if v.severity in ("alarm", "warning")],
        figures={name: log.scalars[tag].last for name, tag in tags.used.items()},
        unjudged=unjudged(tags, mean_over), notes=notes, tags=dict(tags.used), unused=list(tags.unused),
    )  # fmt: skip
