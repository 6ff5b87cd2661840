"""A result folder that appears whole or not at all."""

import glob
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from shared.errors import InputError


@contextmanager
def appearing_whole(out: Path, *, overwrite: bool, marker: str) -> Iterator[Path]:
    """A hidden sibling `.OUT.partial-<pid>` to build in; it becomes `out` if the block ends well and goes if it does not.

    SIGTERM counts as an interrupt. After `kill -9` the hidden folder stays, and never takes the place of `out`.

    Raises:
        InputError: `out` exists and `overwrite` is False, or it holds something else (no file `marker` in it).
    """
    _check_target(out, overwrite, marker)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with interrupted_by_terminate():
            yield partial
            _check_target(out, overwrite, marker)
            _swap(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_target(out: Path, overwrite: bool, marker: str) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f"{out}: exists already; choose another name, or give --overwrite to replace it")
    if not out.is_dir() or (any(out.iterdir()) and not (out / marker).is_file()):
        raise InputError(
            f"{out}: is not a prepared data set (no {marker} in it), so --overwrite leaves it alone; remove it yourself"
        )


def _swap(partial: Path, out: Path) -> None:
    """Put `partial` in the place of `out`; what was there stays until the new folder has its name."""
    if not out.exists():
        partial.rename(out)
        return
    old = out.parent / f".{out.name}.replaced-{os.getpid()}"
    out.rename(old)
    try:
        partial.rename(out)
    finally:
        if not out.exists():
            old.rename(out)
    shutil.rmtree(old)


def leftovers(out: Path) -> list[Path]:
    """Hidden siblings that killed preparations of `out` left behind, or that others still work in."""
    return sorted(out.parent.glob(f".{glob.escape(out.name)}.partial-*"))


@contextmanager
def interrupted_by_terminate() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does, so that what is half made is cleared away; in the main thread, which alone may ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
