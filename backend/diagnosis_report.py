"""A diagnosis as text: what `diagnose` prints, and writes as collapse_analysis.txt."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from backend.diagnosis import FIGURES, Diagnosis
from shared.collapse import Verdict
from shared.metrics import PROBE, TRAINING

WIDTH = 118
LABEL = 13
SHOWN_TAGS = 20
CATALOGUE = TRAINING | PROBE


def text_of(diagnosis: Diagnosis) -> str:
    """The whole report."""
    head = f"{diagnosis.source}: {diagnosis.state}, step {diagnosis.step:,}"
    lines = [head, "=" * min(len(head), WIDTH)]
    for verdict in diagnosis.verdicts:
        lines += ["", *verdict_lines(verdict, diagnosis.commands)]
    if diagnosis.past:
        lines += ["", "Earlier, and over"]
        lines += [
            line for verdict in diagnosis.past for line in _item(f"{verdict.severity}: {verdict.title}, {span(verdict)}.")
        ]
    if diagnosis.forecast:
        lines += ["", *_labelled("Forecast", diagnosis.forecast, indent="")]
    if diagnosis.figures:
        lines += ["", *figure_lines(diagnosis)]
    if diagnosis.tags:
        lines += ["", *_labelled("Read as", ", ".join(f"{name} = {tag}" for name, tag in diagnosis.tags.items()), indent="")]
    if diagnosis.unused:
        more = f", and {len(diagnosis.unused) - SHOWN_TAGS} more" if len(diagnosis.unused) > SHOWN_TAGS else ""
        lines += _labelled("Not used", ", ".join(diagnosis.unused[:SHOWN_TAGS]) + more, indent="")
    if diagnosis.unjudged:
        lines += ["", "Not judged", *(line for what, why in diagnosis.unjudged for line in _item(f"{what}: {why}"))]
    if diagnosis.notes:
        lines += ["", "Notes", *(line for note in diagnosis.notes for line in _item(note))]
    return "\n".join(lines) + "\n"


def verdict_lines(verdict: Verdict, commands: Mapping[str, str]) -> Iterator[str]:
    """One verdict with its evidence and what to do."""
    when = f", {span(verdict)}" if verdict.began is not None else ""
    yield f"{verdict.severity.upper()}: {verdict.title}{when}"
    yield from _wrapped(verdict.detail, "  ")
    if verdict.evidence:
        then = f"at step {verdict.measured:,}: " if verdict.measured is not None else ""
        yield from _labelled("evidence", then + figures(verdict.evidence, verdict.thresholds))
    if verdict.dims:
        yield from _labelled("dimensions", ranges(verdict.dims))
    if verdict.severity not in ("alarm", "warning"):
        return
    if verdict.cause not in ("", "unknown"):
        yield from _labelled("likely cause", verdict.cause.replace("_", " "))
    if verdict.advice:
        yield from _labelled("advice", verdict.advice)
    if verdict.remedies:
        yield from _labelled("remedies", ", then ".join(verdict.remedies))
        first = commands.get(verdict.remedies[0])
        if first is not None:
            yield f"  {'try first':<{LABEL}}{first}"  # in one line, to be copied


def span(verdict: Verdict) -> str:
    """When it began, was seen, and ended."""
    began = (
        f"since step {verdict.began:,}" if verdict.ended is None else f"from step {verdict.began or 0:,} to {verdict.ended:,}"
    )
    return f"{began} (seen at {verdict.seen:,})" if verdict.seen is not None and verdict.seen != verdict.began else began


def figure_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """The newest figures, one to a line, in words as well; without units where somebody else's log has scales of its own."""
    yield f"Figures at step {diagnosis.measured:,}" if diagnosis.measured is not None else "Figures, the last of each"
    for name, value in diagnosis.figures.items():
        known = CATALOGUE.get(name)
        unit = known.unit if known and not diagnosis.tags else ""
        yield f"  {name:<20} {number(value):>9} {unit:<10} {known.label if known else ''}".rstrip()


def explained() -> str:
    """What the figures are, for `--help`."""
    lines = [_labelled(name, CATALOGUE[name].help, width=22) for name in FIGURES]
    return "\n".join(["the figures of a report:", *(line for each in lines for line in each)])


def figures(values: Mapping[str, float], limits: Mapping[str, float] | None = None) -> str:
    """`name value (limit x)`; limits of what has no value of its own come last."""
    limits = limits or {}
    shown = [
        f"{name} {number(value)}" + (f" (limit {number(limits[name])})" if name in limits else "")
        for name, value in values.items()
    ]
    return ", ".join([*shown, *(f"{name} limit {number(limit)}" for name, limit in limits.items() if name not in values)])


def number(value: float) -> str:
    """Short; a count without a point."""
    if math.isfinite(value) and value == round(value) and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def ranges(dims: Sequence[int]) -> str:
    """0, 1, 2, 5 as `0-2, 5`."""
    runs: list[list[int]] = []
    for dim in sorted(set(dims)):
        if runs and dim == runs[-1][1] + 1:
            runs[-1][1] = dim
        else:
            runs.append([dim, dim])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _labelled(label: str, text: str, indent: str = "  ", width: int = LABEL) -> list[str]:
    lead = f"{indent}{label:<{width}}"
    return textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead), break_long_words=False) or [
        lead.rstrip()
    ]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False)


def _item(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False)
