"""Connections that last, by the session they came with: who signs out ends them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Sessions:
    """What is open in each session. Belongs to the event loop."""

    def __init__(self) -> None:
        self._open: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def held(self, session: str | None) -> Iterator[asyncio.Event | None]:
        """Held while a connection lasts; the event is set when its session ends. None without a session."""
        if session is None:
            yield None
            return
        ended = asyncio.Event()
        self._open.setdefault(session, set()).add(ended)
        try:
            yield ended
        finally:
            self._open[session].discard(ended)
            if not self._open[session]:
                del self._open[session]

    def end(self, session: str) -> None:
        """End all that is open in a session."""
        for ended in self._open.get(session, ()):
            ended.set()
