"""Reading that takes longer than a page may wait: done once for all sessions, in the background, with progress."""

import hashlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from shared.errors import InputError
from shared.torch_file import Identity, identity_of, open_file

KEY = ".checkpoints"
"""The key under which pages hear that some of this reading got on; no run can have that name."""
TELL_EVERY_S = 0.4
REMEMBERED = 256
PIECE_BYTES = 4 << 20
RETRY_S = 2.0
"""A reading that the system refused is begun anew when it is asked for later than this: not at the redraw that shows the refusal."""

T = TypeVar("T")
Report = Callable[[float], None]
"""Told the share that is done, from 0 to 1."""


class Task(Generic[T]):
    """One piece of reading: `result` is None until it is done, `problem` says why it could not be."""

    def __init__(self, work: Callable[[Report], T]) -> None:
        self.work = work
        self.share = 0.0
        self.result: T | None = None
        self.problem: str | None = None
        self._refused_at: float | None = None
        self._finished = threading.Event()

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return not self._finished.is_set()

    @property
    def worth_another_try(self) -> bool:
        """Whether the system refused it (rights, a disk) a while ago: that may have been mended without the file changing."""
        return self._refused_at is not None and time.monotonic() - self._refused_at > RETRY_S

    def wait(self, seconds: float) -> "Task[T]":
        """Give a short task the time to end, so that a page shows its result at once."""
        self._finished.wait(seconds)
        return self

    def do(self, report: Report) -> None:
        """Called on the lane's thread."""
        try:
            self.result = self.work(report)
        except InputError as error:
            self.problem = str(error)
            self._refused_at = time.monotonic() if isinstance(error.__cause__, OSError) else None
        except OSError as error:
            self._refused_at = time.monotonic()
            self.problem = f"{error.filename or 'the file'} cannot be read ({error.strerror}); try again once it can"
        finally:
            if self.result is None and self.problem is None:
                self.problem = "reading ended unexpectedly; what the dashboard printed says why"
            self._finished.set()


class Lane:
    """Tasks one after the other on one thread, which lives only while there are some. For any thread."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._tasks: OrderedDict[Hashable, Task[Any]] = OrderedDict()
        self._waiting: deque[Task[Any]] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._told = 0.0

    def known(self, key: Hashable) -> Task[Any] | None:
        """The task of that key, if it was asked for."""
        with self._lock:
            return self._tasks.get(key)

    @property
    def busy(self) -> bool:
        """Whether a task is waiting or under way."""
        return self._thread is not None

    def ask(self, key: Hashable, work: Callable[[Report], T], *, again: bool = False) -> Task[T]:
        """The task of that key; begun unless it was before, or failed and is wanted `again` or worth another try."""
        with self._lock:
            task = self._tasks.get(key)
            if task is None or (task.problem is not None and (again or task.worth_another_try)):
                task = self._tasks[key] = Task(work)
                self._waiting.append(task)
                self._forget()
            self._tasks.move_to_end(key)
            self._begin()
        return task

    def _begin(self) -> None:
        """A thread for what waits, unless there is one. The caller holds the lock."""
        if self._thread is None and self._waiting:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()

    def _forget(self) -> None:
        for key, task in list(self._tasks.items()):
            if len(self._tasks) <= REMEMBERED:
                break
            if not task.running:
                del self._tasks[key]

    def _run(self) -> None:
        try:
            while task := self._next():
                try:
                    task.do(partial(self._report, task))
                finally:
                    self._tell()
        finally:
            with self._lock:
                if self._thread is threading.current_thread():  # a task broke the thread: the others go on
                    self._thread = None
                    self._begin()

    def _next(self) -> Task[Any] | None:
        with self._lock:
            if not self._waiting:
                self._thread = None
                return None
            return self._waiting.popleft()

    def _report(self, task: Task[Any], share: float) -> None:
        task.share = share
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._told = time.monotonic()
            self._tell()


class CheckpointWork:
    """The slow readings of one dashboard process: hashes on one thread, values on another, for a hash may take minutes."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.hashes, self.values = Lane(tell), Lane(tell)

    @property
    def busy(self) -> bool:
        """Whether anything is being read."""
        return self.hashes.busy or self.values.busy

    def known_hash(self, identity: Identity | None) -> Task[str] | None:
        """The reading of a whole file for its sha256, if somebody asked for it."""
        return self.hashes.known(identity) if identity else None

    def ask_hash(self, path: Path, identity: Identity) -> Task[str]:
        """Read a whole file for its sha256."""
        return self.hashes.ask(identity, lambda report: sha256(path, identity, report), again=True)


def sha256(path: Path, identity: Identity, report: Report) -> str:
    """Hash of a file, read in pieces.

    Raises:
        InputError: it is no longer the file that was asked for.
    """
    digest, read = hashlib.sha256(), 0
    with open_file(path) as file:
        if identity_of(file) != identity:
            raise InputError(f"{path.name} was replaced before it could be read; check it again")
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            read += len(piece)
            report(read / max(identity[2], 1))
    return digest.hexdigest()
