"""Loops that serve all runs for weeks must outlive what nobody foresaw about one of them, and must not hide it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

PAUSE_S = 5.0
"""Before what has failed begins anew."""

log = logging.getLogger("dashboard")

_told: set[tuple[str, str]] = set()


class Outlive:
    """`with Outlive("the news of run a"):` an error that comes out of the block is logged with its traceback, and the loop goes on.

    For the outermost turn of an endless loop, and for what is one of many files: errors with a name are handled where they arise.
    The same error of the same thing is told once. What ends a program or a task is not held up, nor what `but` names.
    """

    def __init__(self, what: str, but: tuple[type[Exception], ...] = ()) -> None:
        self.what = what
        self.but = but
        self.failed = False
        """Whether there was such an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Whether the error was one to be outlived."""
        if not isinstance(error, Exception) or isinstance(error, self.but):
            return False
        self.failed = True
        if (self.what, repr(error)) not in _told:
            _told.add((self.what, repr(error)))
            log.error("%s: %s; please report this, everything else goes on", self.what, type(error).__name__, exc_info=error)
        return True


async def restarted(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Await `work()`, and begin it anew each time it ends by an error."""
    while True:
        with Outlive(what):
            await work()
            return
        await asyncio.sleep(PAUSE_S)
