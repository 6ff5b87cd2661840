"""Ways out of the dashboard: a webhook and a command. Each has its own thread; what it cannot deliver it says, and tries again."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, Protocol
from urllib.parse import urlsplit

import orjson

from dashboard.jobs.process import HELPER_OF
from dashboard.notify.notice import Notice
from dashboard.outlive import Outlive

TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
PAUSES_S = (2.0, 8.0, 30.0)
"""Before the second, third and fourth try."""
MOST_WAITING = 200
VARIABLES = "SEQSETVAE_NOTICE_"
"""Begins the variables that a command gets: those of training have other names, and a command may start one."""

log = logging.getLogger("dashboard")


class DeliveryError(Exception):
    """One try failed; the text says why, without secrets. `again` when a later try may do better."""

    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


class Way(Protocol):
    """How one notice gets out."""

    name: str
    """As pages and logs call it; nothing secret."""

    def send(self, notice: Notice, address: str) -> None:
        """Deliver it. Raises DeliveryError."""


class Webhook:
    """POSTs a notice as JSON. The path and query of its address are secrets: who knows them may write to the channel."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        parts = urlsplit(url)
        self.name = f"webhook at {parts.hostname}"

    def send(self, notice: Notice, address: str) -> None:
        """Redirects are not followed: they would carry the news to another place."""
        import httpx  # a tenth of the server's start, for a notice that may never come

        try:
            answer = httpx.post(self._url, json=notice.payload(address), timeout=self._timeout_s)
        except httpx.TimeoutException:
            raise DeliveryError(f"no answer within {self._timeout_s:.0f} s", again=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DeliveryError(f"not reached ({type(error).__name__})", again=True) from None
        if not answer.is_success:
            later = answer.status_code >= 500 or answer.status_code in (408, 425, 429)
            raise DeliveryError(f"answered {answer.status_code} {answer.reason_phrase}".rstrip(), again=later)


class Command:
    """Runs a program with a notice on its standard input as JSON, and in variables SEQSETVAE_NOTICE_RUN and so on. No shell."""

    def __init__(self, words: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        self._words = list(words)
        self._timeout_s = timeout_s
        self.name = f"command {os.path.basename(words[0])}"  # noqa: PTH119

    def send(self, notice: Notice, address: str) -> None:
        """A program that runs too long is ended, with all it started."""
        payload = notice.payload(address)
        told = {f"{VARIABLES}{name.upper()}": str(value) for name, value in payload.items()}
        kept = {name: value for name, value in os.environ.items() if name != HELPER_OF}
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env={**kept, **told},
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise DeliveryError(f"cannot be started: {error.strerror}", again=False) from None
            try:
                process.communicate(orjson.dumps(payload), timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                _end(process)
                raise DeliveryError(f"still ran after {self._timeout_s:.0f} s and was ended", again=False) from None
            if process.returncode != 0:
                raise DeliveryError(f"ended with {process.returncode}{_last_line(errors)}", again=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
    lines = errors.read().decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {said[:200]}" if said else ""


class Outlet:
    """Delivers notices one after the other, in a thread of its own: nothing waits for it.

    Args:
        way: where they go.
        delivered: told of each notice that is out, or given up.
        changed: told when `problem` changed.
    """

    def __init__(
        self, way: Way, address: str, delivered: Callable[[str, Notice], None], changed: Callable[[], None], pauses_s: Sequence[float] = PAUSES_S
    ) -> None:  # fmt: skip
        self.way = way
        self.problem: str | None = None
        """Why the newest notice did not get out; None when it did."""
        self._address = address
        self._delivered = delivered
        self._changed = changed
        self._pauses_s = pauses_s
        self._queue: queue.Queue[Notice | None] = queue.Queue(MOST_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=way.name, daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def put(self, notice: Notice) -> None:
        """Deliver it soon. When too many wait already, it is given up, and said."""
        try:
            self._queue.put_nowait(notice)
        except queue.Full:
            self._delivered(self.way.name, notice)
            self._say(f"{MOST_WAITING} notices are waiting; newer ones are left out")

    def stop(self, timeout_s: float = 1.0) -> None:
        """End; what is not out stays in the memory for the next start."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (notice := self._queue.get()) is not None and not self._stopping.is_set():
            with Outlive(f"the notice of run {notice.run} to the {self.way.name}") as turn:
                if self._deliver(notice):
                    self._delivered(self.way.name, notice)
            if turn.failed:
                with Outlive(f"saying what went wrong with the {self.way.name}"):
                    self._say("an error of the dashboard itself kept a notice back; its log says which")

    def _deliver(self, notice: Notice) -> bool:
        """Whether the notice is done with: out, or given up after the last try."""
        for pause in (*self._pauses_s, None):
            try:
                self.way.send(notice, self._address)
            except DeliveryError as error:
                self._say(str(error))
                if pause is None or not error.again:
                    return True
                if self._stopping.wait(pause):
                    return False
            else:
                self._say(None)
                return True
        return True

    def _say(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        if self.problem is None:  # once, until it works again
            log.warning("notices: %s: %s", self.way.name, problem)
        self.problem = problem
        self._changed()
