"""Ctrl-C and SIGTERM: the first asks to stop after the step in hand, the second stops at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequested(BaseException):
    """Training was asked to stop. Like KeyboardInterrupt it is no error, and nothing that handles errors may catch it."""


class CollapseStop(StopRequested):
    """Training was to stop at a collapse (`--on_collapse stop`), and does."""


class NotSavedError(Exception):
    """Training went as far as it was to go, and the checkpoint that would keep it could not be written."""


def asked_by(number: int | None) -> str:
    """Who asked to stop, in words: the user at the terminal, or another program (`make demo` hands a Ctrl-C on as SIGTERM)."""
    return "Ctrl-C" if number == signal.SIGINT else "Asked to stop"


def reason(number: int | None) -> str:
    """The same as the reason for which a run stopped."""
    return "Ctrl-C" if number == signal.SIGINT else "asked to stop"


class StopSignals:
    """Remembers that a signal came. Lightning sets its own handlers, so `install` is called again once it has."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None

    def install(self) -> None:
        """Take both signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise StopRequested(f"{reason(number)} a second time")
        self.requested = signal.Signals(number)
        print(f"\n{asked_by(self.requested)}: finishing this step and saving; once more to stop at once.", flush=True)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Both signals are remembered inside the block, and as before after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signals = StopSignals()
    signals.install()
    try:
        yield signals
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
