"""Verdicts of a run: replayed from its stored rows, or as its trainer wrote them among the events."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from pydantic import TypeAdapter

from shared.collapse import PRESETS, SEVERITIES, Sensitivity, Thresholds, Verdict
from shared.columns import Columns
from shared.detector import NOTHING_YET, Detector, replay
from shared.errors import InputError
from shared.forecast import Forecast
from shared.layout import RunLayout
from shared.reader import each_row, read_record
from shared.schema import RunInfo, checked

FINETUNE = Verdict(
    "off", "info", "No posterior to watch", "Fine-tuning trains the classifier alone, on a frozen posterior: look at AUROC and AUPRC."
)  # fmt: skip
MONITOR_OFF = Verdict(
    "off", "info", "Posterior monitoring is off", "This run was started with --disable_metrics_monitoring: no verdict."
)
BACKGROUND = frozenset({"healthy", "undecided", "insufficient", "off"})
"""Kinds that say how a run stands where nothing else is to be said; one takes the place of another."""
Subject = tuple[str, int | None]
CHECK = TypeAdapter(Verdict)


def limits_of(info: RunInfo, sensitivity: Sensitivity | None = None) -> Thresholds:
    """The limits a run is judged by: of the preset asked for, else those in its run.json, else of the preset it names."""
    kept = info.detector or {}
    known = {field.name for field in fields(Thresholds)}
    if sensitivity is None and known <= kept.keys():
        return Thresholds(**{name: kept[name] for name in known})  # type: ignore[arg-type]
    named = sensitivity or _option(info.config, "monitor", "sensitivity")
    return PRESETS.get(named, Thresholds())


def replay_run(layout: RunLayout, sensitivity: Sensitivity | None = None) -> Detector:
    """The detector after all stored rows of a run: its `verdicts` hold now, its `past` have ended.

    Raises:
        InputError: run.json cannot be read.
    """
    info = read_record(layout.run_json, RunInfo)
    detector = Detector(info.config, limits_of(info, sensitivity), info.max_steps)
    probes = (row for row in each_row(layout.evaluations) if row.get("kind") == "probe")
    return replay(detector, each_row(layout.metrics), probes)


def diagnose_run(layout: RunLayout, sensitivity: Sensitivity | None = None) -> list[Verdict]:
    """All that holds at the end of a stored run, the most serious first: at least one. Raises InputError like `replay_run`."""
    detector = replay_run(layout, sensitivity)
    found, off = detector.verdicts, unwatched(read_record(layout.run_json, RunInfo).config)
    return sorted([off if v is NOTHING_YET and off else v for v in found], key=lambda v: SEVERITIES.index(v.severity))


class VerdictLog:
    """Folds the events of a run, in their order, into what holds and what is past, and what was foretold last."""

    def __init__(self) -> None:
        self.open: dict[Subject, Verdict] = {}
        self.past: list[Verdict] = []
        self.background: Verdict | None = None
        self.forecast: Forecast | None = None

    def take(self, event: Mapping[str, Any]) -> str | None:
        """Take in one row of an events.jsonl, of whatever kind; returns why it cannot be read, or None. Any program may have written it."""
        kind, data = event.get("kind"), event.get("data")
        try:
            if kind == "verdict":
                self.add(data)
            elif kind == "forecast":
                self.forecast = Forecast.of_event(data)
        except InputError as error:
            return f"the {kind} at step {event['step']:,} cannot be read ({error})"
        return None

    def add(self, data: object) -> None:
        """Take in the `data` of one verdict event. Raises InputError like `verdict_of`."""
        verdict = verdict_of(data)
        if verdict.kind in BACKGROUND:
            self.background = verdict
        elif verdict.ended is None:
            self.open[verdict.subject] = verdict
        else:
            self.open.pop(verdict.subject, None)
            self.past.append(verdict)

    def changes(self, now: Iterable[Verdict], ended: Sequence[Verdict], step: int) -> Iterator[Verdict]:
        """What there is to add, at `step`, so that `now` holds: what is over (as in `ended`, where it is there), new or different."""
        current = {verdict.subject: verdict for verdict in now}
        for subject, before in list(self.open.items()):
            if subject not in current:
                yield next((v for v in reversed(ended) if v.subject == subject), None) or replace(before, ended=step)
        for subject, verdict in current.items():
            known = self.background if verdict.kind in BACKGROUND else self.open.get(subject)
            reworded = known is not None and verdict.kind in BACKGROUND and known.detail != verdict.detail
            same = known is not None and (known.kind, known.severity, known.dims) == (
                verdict.kind,
                verdict.severity,
                verdict.dims,
            )
            if reworded or not same:
                yield verdict

    def verdicts(self, config: Mapping[str, Any]) -> list[Verdict]:
        """All that holds, the most serious first: at least one. `config` is that of the run.json."""
        found = list(self.open.values())
        background = self.background or unwatched(config) or NOTHING_YET
        if not found or background.kind not in ("healthy", "undecided"):
            found.append(background)
        return sorted(found, key=lambda verdict: (SEVERITIES.index(verdict.severity), verdict.began or 0))


def read_verdicts(events: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> list[Verdict]:
    """What the trainer last said of a run, from rows of its events.jsonl: the most serious first, at least one."""
    log = VerdictLog()
    for event in events:
        log.take(event)
    return log.verdicts(config)


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the `data` of an event; its kind is under "verdict"."""
    kept = asdict(verdict)
    return {"verdict": kept.pop("kind"), **kept}


def said(verdict: Verdict) -> str:
    """A verdict as the message of its event."""
    over = f" is over since step {verdict.ended:,}" if verdict.ended is not None else f": {verdict.detail}"
    return f"{verdict.title}{over}"


def verdict_of(data: object) -> Verdict:
    """The verdict in the `data` of an event; fields of another release are left out.

    Raises:
        InputError: a field is missing or wrong; the message names it.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("verdict"), str):
        raise InputError("verdict: its kind is not given")
    known = {"severity": "info", "title": data["verdict"], "detail": ""} | dict(data) | {"kind": data["verdict"]}
    for name in ("evidence", "thresholds"):  # JSON has no NaN: such a figure is null
        if isinstance(known.get(name), Mapping):
            known[name] = {key: value for key, value in known[name].items() if value is not None}
    return checked(CHECK, known)


def unwatched(config: Mapping[str, Any]) -> Verdict | None:
    """Why a run has no posterior to watch; None for one that has."""
    if _option(config, "monitor", "disable_metrics_monitoring"):
        return MONITOR_OFF
    return FINETUNE if _option(config, "trainer", "stage") == "finetune" else None


def nonfinite_steps(rows: Columns) -> dict[str, list[int]]:
    """Metric to the steps at which it was NaN or infinite, from rows of a step log. What is no list of names says nothing."""
    found: dict[str, list[int]] = {}
    if "nonfinite" in rows:
        for step, names in zip(rows["step"], rows["nonfinite"], strict=True):
            for name in names if isinstance(names, list) else ():
                found.setdefault(str(name), []).append(int(step))
    return found


def _option(config: Mapping[str, Any], group: str, name: str) -> Any:
    options = config.get(group)
    return options.get(name) if isinstance(options, Mapping) else None
