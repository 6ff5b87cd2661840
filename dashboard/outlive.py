"""Loops that serve all runs for weeks must outlive what nobody foresaw about one of them, and must not hide it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType

PAUSE_S = 5.0
"""Before what has failed begins anew."""

log = logging.getLogger("dashboard")

_told: set[tuple[str, str]] = set()


class Outlive(AbstractContextManager[None]):
    """`with Outlive("the news of run a"):` an error that comes out of the block is logged with its traceback, and the loop goes on.

    For the outermost turn of an endless loop, and nowhere else: errors with a name are handled where they arise. The same error
    of the same thing is told once. What ends a program or a task is not held up.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Whether the error was one to be outlived."""
        if not isinstance(error, Exception):
            return False
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
