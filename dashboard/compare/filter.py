"""The filter over runs: `healthy tag:sweep state:finished loss.beta_max>0.5 auroc>=0.8`. Words are joined by and, `-` negates.

A word without an operator is looked for in the name and the tags; with `*` or `?` it has to match one of them as a whole.
"""

import fnmatch
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dashboard.overview.summaries import RunSummary
from shared.errors import InputError
from shared.reader import Health

COMPARISON = re.compile(r"^([A-Za-z_][\w.]*)(>=|<=|!=|==|=|>|<)(.*)$")
NAMED = re.compile(r"^(state|tag|name):(.*)$", re.IGNORECASE)
HELP = (
    "Words are looked for in name and tags (`*` matches anything). `state:running`, `tag:sweep`, an option with its value "
    "(`loss.beta_max>0.5`, `optim.lr_schedule=cosine`) or a figure (`auroc>0.8`, `active_units<4`, `step>1000`). "
    "Several words have to hold together; `-` in front of one excludes. Quote what has spaces. Archived runs are left out."
)


@dataclass(frozen=True)
class Candidate:
    """What a filter may ask of a run."""

    name: str
    state: str
    tags: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Dotted option to value."""
    figures: Mapping[str, float | None] = field(default_factory=dict)


Test = Callable[[Candidate], bool]


def candidate(summary: RunSummary) -> Candidate:
    """What is known of a run without its logs."""
    info = summary.status.info
    figures = {"auroc": summary.best_auroc, "active_units": summary.active_units, "step": float(summary.step)}
    return Candidate(
        summary.name, summary.status.health.value, tuple(summary.notes.tags), flat(info.config) if info else {}, figures
    )


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """`group.option` to value, groups of any depth."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": kept for inner, kept in flat(value).items()}
        else:
            found[name] = value
    return found


def matching(text: str, runs: Iterable[Candidate]) -> list[Candidate]:
    """The runs for which every word of `text` holds, in their order.

    Raises:
        InputError: a word cannot be understood, or names an option or state that no run has.
    """
    known = list(runs)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"Filter {text!r}: a quote is left open; close it or leave it out") from error
    tests = [_test(word, known) for word in words]
    return [run for run in known if all(test(run) for test in tests)]


def _test(word: str, known: list[Candidate]) -> Test:
    if word.startswith("-") and len(word) > 1:
        excluded = _test(word[1:], known)
        return lambda run: not excluded(run)
    named = NAMED.match(word)
    if named:
        return _named(named[1].lower(), named[2], word)
    comparison = COMPARISON.match(word)
    if comparison:
        return _comparison(comparison[1], comparison[2].replace("==", "="), comparison[3], word, known)
    return lambda run: any(_fits(word, text) for text in (run.name, *run.tags))


def _fits(pattern: str, text: str) -> bool:
    pattern, text = pattern.lower(), text.lower()
    return fnmatch.fnmatchcase(text, pattern) if set("*?") & set(pattern) else pattern in text


def _named(kind: str, value: str, word: str) -> Test:
    if kind == "tag":
        return lambda run: any(fnmatch.fnmatchcase(tag.lower(), value.lower()) for tag in run.tags)
    if kind == "name":
        return lambda run: _fits(value, run.name)
    states = [state.value for state in Health]
    if value.lower() not in states:
        raise InputError(f"Filter {word!r}: no such state; the states are {', '.join(states)}")
    return lambda run: run.state == value.lower()


def _comparison(name: str, operator: str, wanted: str, word: str, known: list[Candidate]) -> Test:
    read = _reader(name, word, known)
    if operator in ("=", "!="):
        return lambda run: _equal(read(run), wanted) is (operator == "=")
    try:
        limit = float(wanted)
    except ValueError as error:
        raise InputError(
            f"Filter {word!r}: {wanted!r} is no number; after {operator} write one, as in {name}{operator}0.5"
        ) from error
    compare: dict[str, Callable[[float], bool]] = {
        ">": lambda value: value > limit, ">=": lambda value: value >= limit,
        "<": lambda value: value < limit, "<=": lambda value: value <= limit,
    }  # fmt: skip

    def holds(run: Candidate) -> bool:
        value = read(run)
        return isinstance(value, int | float) and not isinstance(value, bool) and compare[operator](value)

    return holds


def _reader(name: str, word: str, known: list[Candidate]) -> Callable[[Candidate], Any]:
    """What `name` means: a figure, an option by its dotted name, or by its last part where only one group has it."""
    if any(name in run.figures for run in known):
        return lambda run: run.figures.get(name)
    options = sorted({option for run in known for option in run.options})
    full = [option for option in options if option == name] or [option for option in options if option.split(".")[-1] == name]
    if not full and known:
        raise InputError(
            f"Filter {word!r}: no run has an option or figure {name!r}; options are written as in loss.beta_max>0.5"
        )
    if len(full) > 1:
        raise InputError(f"Filter {word!r}: {name!r} could be {' or '.join(full)}; write it out")
    return lambda run: run.options.get(full[0]) if full else None


def _equal(value: Any, wanted: str) -> bool:
    if isinstance(value, bool) or value is None:
        return str(value).lower() == wanted.lower()
    if isinstance(value, int | float):
        try:
            return float(value) == float(wanted)
        except ValueError:
            return False
    return str(value).lower() == wanted.lower()
