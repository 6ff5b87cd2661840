"""Where lines lie in a step log of any size: the last ones, a sample, those of a range of steps; without reading the rest."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

BLOCK_BYTES = 1 << 20
LINE_BYTES = 4096
"""A first guess at the length of a line; longer ones take another read."""


def start_of_last(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` whole lines begin; read backwards, block by block."""
    at = file.seek(0, os.SEEK_END)
    left = lines + 1  # the newline before the first of them
    while at > 0:
        start = max(0, at - BLOCK_BYTES)
        file.seek(start)
        block = file.read(at - start)
        found = block.count(b"\n")
        if found >= left:
            place = len(block)
            for _ in range(left):
                place = block.rfind(b"\n", 0, place)
            return start + place + 1
        left -= found
        at = start
    return 0


def sampled(path: Path, lines: int) -> Iterator[bytes]:
    """About `lines` whole lines, evenly spaced over the file, the first and the last among them, in file order."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        last = start_of_last(file, 1)
        ends = 0
        for number in range(lines - 1):
            at = last * number // max(lines - 1, 1)
            start = at if at == 0 else _next_line(file, at - 1, size)
            if ends <= start < last:
                line = _line_at(file, start, size)
                ends = start + len(line)
                yield line
        line = _line_at(file, last, size)
        if line.endswith(b"\n"):
            yield line


def between(path: Path, low: int, high: int, most: int) -> bytes | None:
    """The whole lines with low <= step <= high of a log whose steps ascend; None, unread, where they are more than `most` bytes.

    Found by bisection: some twenty short reads, however long the log is. Where a line has no step, its neighbours decide.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start, end = (_bisect(file, size, bound) for bound in (low, high + 1))
        if end - start > most:
            return None
        file.seek(start)
        data = file.read(max(end - start, 0))
    return data[: data.rfind(b"\n") + 1]


def _bisect(file: BinaryIO, size: int, step: int) -> int:
    """Where the first line with at least this step begins; `size` where there is none."""
    low, high = 0, size  # lines that begin before `low` have a smaller step, those that begin at or behind `high` have not
    while low < high:
        middle = (low + high) // 2
        start = 0 if middle == 0 else _next_line(file, middle - 1, size)
        found = None
        while start < high and found is None:
            line = _line_at(file, start, size)
            found = _step_of(line)
            end = start + len(line)
            if found is None:
                start = end
        if found is None or found >= step:
            high = middle
        else:
            low = end
    return low if low >= size or low == 0 else _next_line(file, low - 1, size)


def _next_line(file: BinaryIO, at: int, size: int) -> int:
    """Where the line behind the first newline at or after `at` begins; `size` where there is none."""
    return min(at + len(_line_at(file, at, size)), size)


def _line_at(file: BinaryIO, at: int, size: int) -> bytes:
    """The bytes from `at` up to and with the next newline, or to the end."""
    line, want = b"", LINE_BYTES
    while at + len(line) < size:
        block = os.pread(file.fileno(), want, at + len(line))
        end = block.find(b"\n") + 1
        if end:
            return line + block[:end]
        if not block:
            break
        line, want = line + block, want * 2
    return line


def _step_of(line: bytes) -> int | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return step if type(step) is int else None
