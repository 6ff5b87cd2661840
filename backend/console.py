"""console.log: what a run printed, kept with the run."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from shared.writer import warn_on_stderr


class MayVanish:
    """A terminal that may be closed meanwhile: that must not stop the training, nor the saving of one that ends with it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if there is still somebody to read it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush likewise."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Tee:
    """A text stream that writes to the terminal and to a file; one that fails is left alone, the other goes on."""

    def __init__(self, terminal: TextIO, file: TextIO) -> None:
        self.terminal = MayVanish(terminal)
        self._file: TextIO | None = file

    def write(self, text: str) -> int:
        """Write to both."""
        if self._file is not None:
            try:
                self._file.write(text)
                self._file.flush()
            except OSError:
                self._file = None
                self.terminal.write("\nWARNING: console.log cannot be written any more\n")
        return self.terminal.write(text)

    def flush(self) -> None:
        """Flush the terminal; the file is flushed at every write."""
        self.terminal.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self.terminal, name)


@contextlib.contextmanager
def tee_console(path: Path) -> Iterator[None]:
    """Copy stdout and stderr into `path`, appending, until the block ends."""
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        warn_on_stderr(f"cannot write {path}: {error.strerror}")
        yield
        return
    with file:
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Tee(sys.stdout, file), Tee(sys.stderr, file)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
