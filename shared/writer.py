"""Writing a run directory so that no reader ever sees a torn record and a kill loses at most the line in hand."""

import errno
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel

from shared.layout import SCHEMA_VERSION

RETRY_AFTER_S = 5.0
MAX_PENDING = 100_000
FLOATS = (float, np.floating)


def replace_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write `data` to `path` so that a reader sees the old bytes or the new, never a mix.

    With `durable` the bytes are on the disk before the name changes (about 0.2 to 4 ms).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk must not also keep the half-written copy
        raise


def write_record(path: Path, record: BaseModel, *, durable: bool = False) -> None:
    """Replace `path` with `record` as indented JSON."""
    data = orjson.dumps(record.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    replace_atomically(path, data + b"\n", durable=durable)


def encode_line(step: int, values: dict[str, Any]) -> bytes:
    """One JSON line with `v` and `step` first. JSON has no NaN: it becomes null and its name goes to `nonfinite`.

    A value that is itself called `v` or `step` is kept as `logged_v` or `logged_step`.
    """
    if "step" in values or "v" in values:
        values = {f"logged_{name}" if name in ("v", "step") else name: value for name, value in values.items()}
    row = {"v": SCHEMA_VERSION, "step": step, **values}
    bad = [name for name, value in values.items() if isinstance(value, FLOATS) and not math.isfinite(value)]
    if bad:
        row["nonfinite"] = bad
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def warn_on_stderr(message: str, level: str = "WARNING") -> None:
    """The default way to be loud."""
    print(f"\n{level}: {message}", file=sys.stderr, flush=True)


class JsonlWriter:
    """Appends whole lines to a file, each with one unbuffered write, so `kill -9` loses nothing already written.

    A full disk or a vanished folder must not stop a day of training: the first failure calls `warn` once, lines wait
    in memory (the oldest of more than 100,000 are dropped, and counted) and are tried again every 5 s; a line torn
    by a full disk is cut off first. `recovered` (`warn` unless given) is told when the file can be written again. Threads
    may share a writer.
    """

    def __init__(
        self, path: Path, warn: Callable[[str], None] = warn_on_stderr, recovered: Callable[[str], None] | None = None
    ) -> None:
        self.path = path
        self.dropped = 0
        self._warn = warn
        self._recovered = recovered or warn
        self._lock = threading.RLock()  # warn may lead back here
        self._pending: deque[bytes] = deque()
        self._retry_at = 0.0
        self._failing = False
        self._fd = -1

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Append one line; see `encode_line`."""
        self.write_bytes(encode_line(step, values))

    def write_record(self, record: BaseModel) -> None:
        """Append one record as a line."""
        self.write_bytes(orjson.dumps(record.model_dump(mode="json"), option=orjson.OPT_APPEND_NEWLINE))

    def write_bytes(self, line: bytes) -> None:
        """Append bytes that are one whole line, or keep them for a later try."""
        with self._lock:
            if self._failing:
                self._keep(line)
                if time.monotonic() >= self._retry_at:
                    self._drain()
                return
            try:
                self._append(line)
            except OSError as error:
                self._keep(line)
                self._fail(error)

    def close(self) -> None:
        """Try once more to write what is waiting, then close; says so if lines are lost."""
        if self._pending:
            self._drain()
        if self._pending or self.dropped:
            self._warn(f"{self.path}: {len(self._pending) + self.dropped} lines could not be written and are lost")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, line: bytes) -> None:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            _cut_torn_end(self._fd)
        if os.fstat(self._fd).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was removed while it was written", str(self.path))
        written = os.write(self._fd, line)
        if written != len(line):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _keep(self, line: bytes) -> None:
        self._pending.append(line)
        while len(self._pending) > MAX_PENDING:
            self._pending.popleft()
            self.dropped += 1

    def _fail(self, error: OSError) -> None:
        before, self._failing = self._failing, True
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not before:
            self._warn(
                f"cannot write {self.path}: {error.strerror or error}. Training goes on; lines wait in memory and are "
                f"tried again every {RETRY_AFTER_S:.0f} s. Free the disk or restore the folder."
            )

    def _drain(self) -> None:
        try:
            while self._pending:
                self._append(self._pending[0])
                self._pending.popleft()
        except OSError as error:
            self._fail(error)
            return
        self._failing = False
        lost = f"{self.dropped} lines were lost" if self.dropped else "no line was lost"
        self._recovered(f"{self.path} can be written again; {lost}")


def _cut_torn_end(fd: int) -> None:
    """Cut a last line without its newline: what a kill or a full disk tore would swallow the next line too."""
    size = os.fstat(fd).st_size
    end, block = size, b""
    while end > 0 and b"\n" not in block:
        start = max(0, end - 65_536)
        block = os.pread(fd, end - start, start)
        whole = start + block.rfind(b"\n") + 1
        end = start
    if size and whole < size:
        os.ftruncate(fd, whole)


def cut_after_step(path: Path, step: int, keep: Path | None = None) -> int:
    """Drop every line of a JSONL file whose step is above `step`, and a torn last line; returns how many went.

    Whole lines are first appended to `keep`, if given; a kill in between leaves them there twice, never nowhere.
    The file is replaced whole (a new inode), so that a reader that follows it starts again and does not mix the two.
    """
    if not path.exists():
        return 0
    kept, cut, dropped = bytearray(), bytearray(), 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and _step_of(line) <= step:
                kept += line
            else:
                dropped += 1
                cut += line if line.endswith(b"\n") else b""
    if cut and keep is not None:
        keep.parent.mkdir(exist_ok=True)
        with keep.open("ab") as file:
            file.write(cut)
    if dropped:
        replace_atomically(path, bytes(kept), durable=True)
    return dropped


def _step_of(line: bytes) -> float:
    try:
        return int(orjson.loads(line)["step"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return math.inf
