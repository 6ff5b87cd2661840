"""Progress and the closing summary of a preparation, on a terminal or in a log file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backend.preparing import Progress as Report
from shared.dataset import DatasetInfo

LOG_EVERY_S = 5.0
SHOWN_IN_LIST = 6


@contextmanager
def progress_on(console: Console) -> Iterator[Report]:
    """A callable (phase, share done): one bar per phase on a terminal, else a line every few seconds."""
    if not console.is_terminal:
        yield _LogLines(console)
        return
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: float) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=1.0)
            bars.update(tasks[phase], completed=done)

        yield report


class _LogLines:
    """The beginning of each phase at most every few seconds, and its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_at = time.monotonic() + LOG_EVERY_S

    def __call__(self, phase: str, done: float) -> None:
        if done >= 1.0 or time.monotonic() >= self._next_at:
            self._console.print(f"{phase}: {done:.0%}", highlight=False, markup=False)
            self._next_at = time.monotonic() + LOG_EVERY_S


def summary_rows(info: DatasetInfo) -> list[tuple[str, str]]:
    """(what, how much) lines on a prepared data set: what it holds, then what was read, dropped and why."""
    constant = [variable.name for variable in info.variables if variable.constant]
    untrained = [variable.name for variable in info.variables if not variable.count]
    rows = [
        (
            "stays",
            f"{sum(info.stays.values()):,} (" + ", ".join(f"{split} {count:,}" for split, count in info.stays.items()) + ")",
        ),
        ("sets", f"{info.sets:,}"),
        ("events", f"{info.events:,}"),
        ("variables", f"{len(info.variables):,}"),
        ("  constant in training (value not modelled)", _shown(constant)),
        ("  without an event in training", _shown(untrained)),
    ]
    for label, counts in info.labels.items():
        rows.append((label, f"{counts['known']:,} known, {counts['positive']:,} positive, {counts['missing']:,} missing"))
    rows += [(name, _shown(value)) for name, value in info.read.items()]
    return rows


def summary_table(info: DatasetInfo) -> Table:
    """`summary_rows` for a terminal."""
    table = Table(title=Text(info.name + (" (simulated, no real patients)" if info.simulated else "")), title_justify="left")
    table.add_column("what", overflow="fold")
    table.add_column("how much", overflow="fold")
    for row in summary_rows(info):
        table.add_row(*map(Text, row))  # plain: names of variables may hold brackets, which rich would take for markup
    return table


def _shown(value: Any) -> str:
    """A count, a short list with the number of its items, or counts by name."""
    if isinstance(value, dict):
        value = [f"{name} {count:,}" for name, count in value.items()]
    if not isinstance(value, list):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if not value:
        return "none"
    more = ", ..." if len(value) > SHOWN_IN_LIST else ""
    return f"{len(value):,}: " + ", ".join(str(item) for item in value[:SHOWN_IN_LIST]) + more
