"""What a command shows of its work while it goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn


@contextmanager
def progress_bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """Descriptions of tasks as plain text, their bars, and what `columns` say, on a terminal; nothing elsewhere.

    It is gone when the work is done.
    """
    console = Console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    with Progress(words, BarColumn(), *columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar
