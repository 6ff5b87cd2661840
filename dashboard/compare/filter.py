"""The filter over runs: `healthy tag:sweep state:finished loss.beta_max>0.5 age<3d`. Words are joined by and, `-` negates.

The same language as that of the list of runs (frontend/overview-query.js); tests/filter_cases.json holds both to it.
"""

import difflib
import fnmatch
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from dashboard.overview.rows import flat
from dashboard.overview.summaries import RunSummary
from shared.errors import InputError
from shared.reader import Health

OPERATION = re.compile(r"([A-Za-z_][\w.]*)(>=|<=|!=|==|=|>|<|:)", re.ASCII)
SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d)", re.ASCII)
SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
DAY = re.compile(r"\d{4}(-\d\d(-\d\d(T[\d:]+)?)?)?", re.ASCII)
HELP = (
    "Words are looked for in name, tags, note, data, device and verdict (`*` matches anything). `state:running`, `tag:sweep`, "
    "`verdict:collapse`, `data:p12`, an option with its value (`loss.beta_max>0.5`, `optim.lr_schedule=cosine`), a figure (`auroc>0.8`, "
    "`units<4`, `step>1000`, `progress>50`) or a time (`age<3d`, `duration>2h`, `started>=2026-11-24`). Several words have to hold "
    "together; `-` in front of one excludes. What a run does not have, it is neither equal nor unequal to. Put what has spaces into "
    '"quotes". Archived runs are left out.'
)
Kind = Literal["text", "number", "date", "span"]


@dataclass(frozen=True)
class Candidate:
    """What a filter may ask of a run; times in seconds, `started` since 1970."""

    name: str
    state: str
    tags: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Dotted option to value."""
    figures: Mapping[str, float | None] = field(default_factory=dict)
    verdict: tuple[str, str, str] | None = None
    """Title, kind and severity."""
    data: str | None = None
    device: str | None = None
    note: str = ""
    reason: str | None = None
    simulated: bool = False
    started: float | None = None


Test = Callable[[Candidate], bool]


@dataclass(frozen=True)
class Field:
    """Something to ask for: its values in a run, none where it is not known."""

    name: str
    of: Callable[[Candidate], Sequence[Any]]
    kind: Kind = "text"
    exact: bool = False
    among: tuple[str, ...] = ()
    words: Callable[[Candidate], Sequence[str]] | None = None
    """What `:` looks in, if not the values."""
    option: bool = False


def _known(value: Any) -> tuple[Any, ...]:
    return () if value in (None, "") else (value,)


def _figure(name: str, kind: Kind = "number") -> Field:
    return Field(name, lambda run: _known(run.figures.get(name)), kind)


def _age(run: Candidate) -> tuple[float, ...]:
    return () if run.started is None else (time.time() - run.started,)


FIELDS = {
    each.name: each
    for each in (
        Field("name", lambda run: (run.name,)),
        Field("state", lambda run: (run.state,), exact=True, among=tuple(state.value for state in Health)),
        Field("verdict", lambda run: run.verdict[:1] if run.verdict else (), words=lambda run: run.verdict or ()),
        Field("tag", lambda run: run.tags, exact=True),
        Field("note", lambda run: _known(run.note)),
        Field("data", lambda run: _known(run.data)),
        Field("device", lambda run: _known(run.device)),
        *map(_figure, ("auroc", "units", "step", "progress")),
        _figure("duration", "span"),
        Field("started", lambda run: _known(run.started), "date"),
        Field("age", _age, "span"),
        Field("simulated", lambda run: ("yes" if run.simulated else "no",), exact=True, among=("yes", "no")),
    )
}
ALIASES = {"tags": "tag", "dataset": "data", "best_auroc": "auroc", "active_units": "units", "notes": "note", "run": "name"}


def candidate(summary: RunSummary) -> Candidate:
    """What the list knows of a run."""
    info, verdict, planned = summary.status.info, summary.concern if summary.complete else None, summary.max_steps
    data = info.dataset if info else None
    figures = {
        "auroc": summary.best_auroc, "units": summary.active_units, "step": float(summary.step), "duration": summary.duration_s,
        "progress": min(summary.step / planned, 1.0) * 100 if planned else None,
    }  # fmt: skip
    return Candidate(
        summary.name, summary.status.health.value, tuple(summary.notes.tags), flat(info.config) if info else {}, figures,
        verdict=(verdict.title, verdict.kind, verdict.severity) if verdict else None, data=data.name if data else None,
        device=info.device if info and info.device != "unknown" else None, note=summary.notes.note, reason=summary.status.reason,
        simulated=bool(data and data.simulated), started=info.created_at.timestamp() if info else None,
    )  # fmt: skip


def matching(text: str, runs: Iterable[Candidate]) -> list[Candidate]:
    """The runs for which every word of `text` holds, in their order.

    Raises:
        InputError: a word cannot be understood, or names an option or state that no run has.
    """
    known = list(runs)
    tests = [_test(word, plain, known) for word, plain in _split(text)]
    return [run for run in known if all(test(run) for test in tests)]


def _split(text: str) -> list[tuple[str, int]]:
    """Words without their quotes, and how many letters of each stand before the first quote: only those can be operators."""
    if text.count('"') % 2:
        raise InputError(f"Filter {text!r}: a quote is left open; close it or leave it out")
    found = []
    for word in re.findall(r'(?:"[^"]*"|[^\s"])+', text):
        plain = word.find('"')
        found.append((word.replace('"', ""), plain if plain >= 0 else len(word)))
    return found


def _test(word: str, plain: int, known: list[Candidate]) -> Test:
    if word.startswith("-") and len(word) > 1 and plain > 0:
        excluded = _test(word[1:], plain - 1, known)
        return lambda run: not excluded(run)
    found = OPERATION.match(word)
    if found is None or found.end() > plain:
        has = _fits(word, exact=False)
        return lambda run: any(map(has, _texts(run)))
    asked, operator, wanted = _field(found[1], word, known), found[2].replace("==", "="), word[found.end() :]
    if asked.among and not set("*?") & set(wanted) and wanted.lower() not in asked.among:
        raise InputError(f"Filter {word!r}: no such {asked.name}; it is one of {', '.join(asked.among)}")
    if operator == ":" and asked.kind == "text" and not asked.option:
        has, words = _fits(wanted, asked.exact), asked.words or asked.of
        return lambda run: any(map(has, words(run)))
    holds = _holds(asked, "=" if operator in (":", "!=") else operator, wanted, word)
    if operator == "!=":
        return lambda run: bool(asked.of(run)) and not any(map(holds, asked.of(run)))
    return lambda run: any(map(holds, asked.of(run)))


def _texts(run: Candidate) -> tuple[str, ...]:
    verdict = run.verdict[:1] if run.verdict else ()
    return (run.name, run.data or "", run.note, run.reason or "", run.device or "", *run.tags, *verdict)


def _fits(pattern: str, exact: bool) -> Callable[[str], bool]:
    wanted = pattern.lower()
    if set("*?") & set(wanted):
        whole = re.compile(fnmatch.translate(wanted.replace("[", "[[]")))
        return lambda text: whole.match(text.lower()) is not None
    return (lambda text: text.lower() == wanted) if exact else (lambda text: wanted in text.lower())


def _holds(asked: Field, operator: str, wanted: str, word: str) -> Callable[[Any], bool]:
    """A test of one value."""
    compare: dict[str, Callable[[Any, Any], bool]] = {
        ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, "=": lambda a, b: a == b,
    }  # fmt: skip
    if asked.kind == "date":
        if not DAY.fullmatch(wanted):
            raise InputError(f"Filter {word!r}: write a day, as in {asked.name}>=2026-11-24")
        return lambda value: compare[operator](datetime.fromtimestamp(value, UTC).isoformat()[: len(wanted)], wanted)
    number = _number(wanted)
    if asked.kind == "text" and operator == "=":
        same = _fits(wanted, exact=True)
        return lambda value: (_is_number(value) and value == number) or same(_shown(value))
    limit = number
    if asked.kind == "span":
        parts = SPAN.fullmatch(wanted)
        limit = float(parts[1]) * SECONDS[parts[2]] if parts else None
    if limit is None:
        how = (
            "no time; write one as 90min, 2h or 3d" if asked.kind == "span" else f"no number; write one, as in {asked.name}>0.5"
        )
        raise InputError(f"Filter {word!r}: {wanted!r} is {how}")
    return lambda value: _is_number(value) and compare[operator](value, limit)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """As the list of runs writes it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")


def _field(given: str, word: str, known: list[Candidate]) -> Field:
    """What `given` means: a field of the list, or an option by its dotted name, or by its last part where only one group has it."""
    name = ALIASES.get(given.lower(), given)
    if name.lower() in FIELDS:
        return FIELDS[name.lower()]
    options = sorted({option for run in known for option in run.options})
    full = [option for option in options if option == name] or [option for option in options if option.split(".")[-1] == name]
    if len(full) > 1:
        raise InputError(f"Filter {word!r}: {given!r} could be {' or '.join(full)}; write it out")
    if not full and known:
        near = difflib.get_close_matches(given, [*FIELDS, *options], 1, cutoff=0)
        raise InputError(f"Filter {word!r}: there is no field or option {given!r}; did you mean {near[0]}?")
    option = full[0] if full else given
    return Field(option, lambda run: (run.options[option],) if option in run.options else (), exact=True, option=True)
