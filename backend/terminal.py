"""What a command shows of its work while it goes on."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, track

LINE_EVERY_S = 15.0
"""Seconds between the lines that stand for a bar where there is no terminal."""
T = TypeVar("T")


@contextmanager
def progress_bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """Descriptions of tasks as plain text, their bars, and what `columns` say, on a terminal; nothing elsewhere.

    It is gone when the work is done.
    """
    console = Console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    with Progress(words, BarColumn(), *columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar


def counted(batches: Sequence[T], what: str) -> Iterator[T]:
    """Each of some batches, while a bar on a terminal, or else a line now and then, says on stderr how many are done."""
    stream = getattr(sys.stderr, "terminal", sys.stderr)
    if stream.isatty():
        yield from track(batches, what, transient=True, console=Console(file=stream))
        return
    said = time.monotonic()
    for done, batch in enumerate(batches):
        if time.monotonic() - said > LINE_EVERY_S:
            print(f"{what}: {done:,} of {len(batches):,} batches", file=sys.stderr, flush=True)
            said = time.monotonic()
        yield batch
