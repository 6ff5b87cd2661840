"""Tells open pages whenever something in the runs folder changes. Nothing here polls a log.

A watchdog thread turns file events into revision numbers, one per run and one for the list of runs; a Starlette route streams
them as server-sent events, with the newest figures beside them. Pages compare and fetch the rest themselves, so a lost or
doubled event is harmless.
"""

import asyncio
import logging
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from watchdog import events as fs
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from dashboard.outlive import Outlive

LIST = ""
"""The key of the list of runs; every other key is a run's folder name."""
SEPARATOR = "\0"
"""Joins the names of several runs to one key, whose revision rises with each of theirs. No file name holds it."""
PATH = "/push"
COALESCE_S = 0.02
"""A step touches several files; what falls into this window is one revision message."""
SEND_GAP_S = 0.05
HEARTBEAT_S = 15.0
CHECK_S = 5.0
"""Seconds between looks at what makes no file event: a process that died, a heartbeat that stopped, a folder replaced."""

WATCHED: list[type[fs.FileSystemEvent]] = [
    fs.FileModifiedEvent, fs.FileCreatedEvent, fs.FileMovedEvent, fs.FileDeletedEvent,
    fs.DirCreatedEvent, fs.DirMovedEvent, fs.DirDeletedEvent,
]  # fmt: skip
"""Not opened, not closed: our own reading must not wake us."""
QUIET_IN_LIST = frozenset({"metrics.jsonl", "console.log"})
"""Files that change every step but whose news the list gets from the heartbeat."""

log = logging.getLogger("dashboard")


class Revisions:
    """Revision numbers by key. `mark` may be called from any thread; the rest belongs to the event loop."""

    def __init__(self, describe: Callable[[str], dict[str, Any]] | None = None) -> None:
        self._describe = describe
        self._first = time.time_ns() // 1_000_000  # later servers count on from higher numbers: an open page notices
        self._numbers: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._scheduled = False
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closing = False
        self.hear: Callable[[list[str]], None] | None = None
        """Told of every mark, on the thread that makes it; must return at once."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on marks wake the subscribers on `loop`."""
        self._loop = loop

    def current(self, key: str) -> int:
        """The revision of a run, of several, or of the list; rises with every change."""
        return sum(self._numbers.get(one, self._first) for one in key.split(SEPARATOR))

    def subscribed(self) -> list[str]:
        """Keys that somebody is looking at."""
        return list(self._waiting)

    def mark(self, keys: Iterable[str]) -> None:
        """Count the keys up and wake who waits for them, a moment later and all at once."""
        keys = list(keys)
        if self.hear is not None:
            self.hear(keys)
        with self._lock:
            for key in keys:
                self._numbers[key] = self.current(key) + 1
                self._dirty.add(key)
            loop = self._loop
            if loop is None or self._scheduled or not self._dirty:
                return
            self._scheduled = True
        try:
            loop.call_soon_threadsafe(loop.call_later, COALESCE_S, self._flush)
        except RuntimeError:  # the loop is closed: the server is going down
            self._loop = None

    def _flush(self) -> None:
        with self._lock:
            dirty, self._dirty, self._scheduled = self._dirty, set(), False
        for key in dirty:
            for changed in self._waiting.get(key, ()):
                changed.set()

    @contextmanager
    def subscribe(self, key: str) -> Iterator[asyncio.Event]:
        """An event that is set when `key` has a new revision."""
        changed = asyncio.Event()
        for one in key.split(SEPARATOR):
            self._waiting.setdefault(one, set()).add(changed)
        try:
            yield changed
        finally:
            for one in set(key.split(SEPARATOR)):
                self._waiting[one].discard(changed)
                if not self._waiting[one]:
                    del self._waiting[one]

    def close(self) -> None:
        """End all streams at once; called on the loop or from a signal handler on its thread."""
        self.closing = True
        for waiting in list(self._waiting.values()):
            for changed in waiting:
                changed.set()

    async def message(self, key: str) -> dict[str, Any]:
        """The revision, and what else is worth sending along; made in a thread, for it may read files."""
        number = self.current(key)
        if self._describe is None or SEPARATOR in key:  # of several runs only that something is new
            return {"revision": number}
        return {"revision": number, **await asyncio.to_thread(self._describe, key)}

    async def stream(self, key: str) -> AsyncIterator[str]:
        """Server-sent events: the message now, then each later one; a comment every 15 s finds dead clients."""
        sent = None
        with self.subscribe(key) as changed:
            while not self.closing:
                changed.clear()
                number = self.current(key)
                if number != sent:
                    sent = number
                    yield f"data: {orjson.dumps(await self.message(key)).decode()}\n\n"
                    await asyncio.sleep(SEND_GAP_S)
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"

    def route(self) -> Route:
        """`GET /push?run=NAME`, several `run=` for news of any of them, or none for the list of runs."""

        async def push(request: Request) -> StreamingResponse:
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(
                self.stream(SEPARATOR.join(request.query_params.getlist("run")) or LIST),
                media_type="text/event-stream",
                headers=headers,
            )

        return Route(PATH, push, methods=["GET"])


def touched(runs: Path, event: fs.FileSystemEvent) -> set[str]:
    """The keys that a file event concerns."""
    keys: set[str] = set()
    for raw in (event.src_path, event.dest_path):
        path = Path(str(raw)) if raw else None
        if path is None or not path.is_relative_to(runs) or path.name.endswith(".tmp"):
            continue
        parts = path.relative_to(runs).parts
        if not parts:
            keys.add(LIST)
            continue
        keys.add(parts[0])
        if len(parts) == 1 or (len(parts) == 2 and parts[1] not in QUIET_IN_LIST):
            keys.add(LIST)
    return keys


class Watcher(fs.FileSystemEventHandler):
    """Watches the runs folder with inotify (or its like), or by polling once a second where watches have run out."""

    def __init__(self, runs: Path, revisions: Revisions, make: Callable[[], BaseObserver] = Observer) -> None:
        self.runs = runs
        self.revisions = revisions
        self._make = make
        self._observer: BaseObserver | None = None
        self._root: tuple[int, int] | None = None

    def on_any_event(self, event: fs.FileSystemEvent) -> None:
        """Called on watchdog's thread."""
        keys = touched(self.runs, event)
        if keys:
            self.revisions.mark(keys)

    def start(self) -> None:
        """Begin to watch; the folder must exist."""
        try:
            self._observer = self._begin(self._make())
        except OSError as error:
            log.warning(
                "cannot watch %s (%s): polling once a second instead. Raise fs.inotify.max_user_watches to get the instant way.",
                self.runs, error.strerror or error,
            )  # fmt: skip
            self._observer = self._begin(PollingObserver(timeout=1.0))
        self._root = self._identity()

    def _begin(self, observer: BaseObserver) -> BaseObserver:
        # watchdog says so when folder and subfolder are made at once; both are watched
        warnings.filterwarnings("ignore", "Callback with id .* already exists", RuntimeWarning)
        observer.schedule(self, str(self.runs), recursive=True, event_filter=WATCHED)
        observer.start()
        return observer

    def stop(self) -> None:
        """End the watching threads."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)
            self._observer = None

    def keep_up(self) -> None:
        """Watch anew when the folder was deleted and made again, which file events cannot tell."""
        identity = self._identity()
        if identity == self._root:
            return
        self.stop()
        self._root = None
        if identity is not None:
            self.start()
        self.revisions.mark([LIST, *self.revisions.subscribed()])

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self.runs.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


async def check_silent_changes(
    watcher: Watcher, state_of: Callable[[str], Hashable], shown: Callable[[str], Hashable] = lambda key: None
) -> None:
    """Every 5 s, for keys that are being looked at, mark those whose `state_of` moved without a file event.

    Of a key that was not looked at the last time (its page was hidden, or is new) nobody knows since when it is as it is: it is
    marked unless it is as `shown` says that pages have it.
    """
    seen: dict[str, Hashable] = {}
    while True:
        await asyncio.sleep(CHECK_S)
        with Outlive("watching the runs folder"):
            await asyncio.to_thread(watcher.keep_up)
        states: dict[str, Hashable] = {}
        for key in watcher.revisions.subscribed():
            with Outlive(f"looking at the state of {key or 'the list of runs'}"):
                before = seen[key] if key in seen else shown(key)
                states[key] = await asyncio.to_thread(state_of, key)
                if before != states[key]:
                    watcher.revisions.mark([key])
        seen = states
