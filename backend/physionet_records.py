"""Records of the PhysioNet 2012 challenge, many files parsed at once.

A record is a text of `Time,Parameter,Value` lines, time as HH:MM since admission. Well-formed blocks go through Arrow's CSV
parser; anything odd sends its block through the line-by-line parser, which defines what is accepted and names file and line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import csv

from shared.errors import InputError

HEADER = b"Time,Parameter,Value"
FLOAT32_MAX = float(np.finfo(np.float32).max)
TIME = re.compile(r"[0-9]{1,4}:[0-5][0-9]")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
COLUMNS = {
    "time": pa.dictionary(pa.int32(), pa.string()),
    "name": pa.dictionary(pa.int32(), pa.string()),
    "value": pa.float64(),
}


@dataclass(frozen=True)
class Record:
    """One file, unparsed: where it lies (for messages), the id in its name, its bytes."""

    file: str
    id: str
    text: bytes


@dataclass(frozen=True)
class Rows:
    """R rows of several records, in file order; a row without a variable name is counted, not kept."""

    record: np.ndarray
    """Position of the row's record in the block, ascending [R]."""
    minute: np.ndarray
    """int64 [R]"""
    name: np.ndarray
    """Index into `names` [R]."""
    value: np.ndarray
    """float64, finite, within the range of float32 [R]."""
    names: list[str]
    nameless: int


def parse_records(records: Sequence[Record]) -> Rows:
    """All rows of some records.

    Raises:
        InputError: not a record, a malformed time or a value that is no finite number; names the file and the line.
    """
    rows = _parse_block(records)
    return parse_line_by_line(records) if rows is None else rows


def _parse_block(records: Sequence[Record]) -> Rows | None:
    """The rows of a block in which everything is as it should be, else None."""
    bodies = [_body(record.text) for record in records]
    if any(body is None for body in bodies):
        return None
    block = b"".join(body for body in bodies if body is not None)
    if not block:
        return None
    try:
        table = csv.read_csv(
            pa.BufferReader(block),
            read_options=csv.ReadOptions(column_names=list(COLUMNS)),
            parse_options=csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types=COLUMNS, null_values=[""], strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    table = table.unify_dictionaries().combine_chunks()
    lines = np.array([body.count(b"\n") for body in bodies if body is not None])
    record = np.repeat(np.arange(len(records)), lines)
    name, names = _encoded(table["name"])
    time, times = _encoded(table["time"])
    value = table["value"].to_numpy()
    usable = np.abs(value) <= FLOAT32_MAX  # False for NaN, which also stands for an empty field
    unnamed = np.isin(name, [index for index, text in enumerate(names) if not text])
    if len(record) != len(name) or not (usable | unnamed).all() or not all(TIME.fullmatch(text) for text in times):
        return None
    minute = np.array([_minutes(text) for text in times], dtype=np.int64)[time]
    return _named(Rows(record, minute, name, value, names, nameless=0))


def _body(text: bytes) -> bytes | None:
    """The lines below the header, each ended by a newline; None if that needs a closer look."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    header, _, body = text.partition(b"\n")
    if header != HEADER or b"\r" in body or body.startswith(b"\n") or b"\n\n" in body:
        return None
    return body if body.endswith(b"\n") or not body else body + b"\n"


def _encoded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Indices and stripped texts of a dictionary column of one chunk."""
    chunk = column.chunk(0)
    return chunk.indices.to_numpy(), [text.strip() for text in chunk.dictionary.to_pylist()]


def _named(rows: Rows) -> Rows:
    """Without the rows whose name is empty; names numbered in order of first appearance among the others."""
    kept = np.array([bool(name) for name in rows.names], dtype=bool)[rows.name]
    present, first = np.unique(rows.name[kept], return_index=True)
    ordered: dict[str, int] = {}
    number = np.zeros(len(rows.names), dtype=np.int64)
    for old in present[np.argsort(first)]:
        number[old] = ordered.setdefault(rows.names[old], len(ordered))
    return Rows(
        record=rows.record[kept], minute=rows.minute[kept], name=number[rows.name[kept]], value=rows.value[kept],
        names=list(ordered), nameless=int((~kept).sum()),
    )  # fmt: skip


def parse_line_by_line(records: Sequence[Record]) -> Rows:
    """As `parse_records`, slowly: the definition of what is accepted.

    Blank lines and rows without a variable name are passed over, space around fields is ignored.
    """
    record: list[int] = []
    minute: list[int] = []
    name: list[int] = []
    value: list[float] = []
    numbers: dict[str, int] = {}
    nameless = 0
    for position, source in enumerate(records):
        lines = _lines(source)
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            fields = [field.strip() for field in line.split(",")]
            if len(fields) != len(COLUMNS):
                _refuse(source, number, line, "three fields, Time,Parameter,Value")
            if not fields[1]:
                nameless += 1
                continue
            if not TIME.fullmatch(fields[0]):
                _refuse(source, number, fields[0], "a time as HH:MM")
            if not NUMBER.fullmatch(fields[2]) or abs(float(fields[2])) > FLOAT32_MAX:
                _refuse(source, number, fields[2], f"a number as value of {fields[1]}")
            record.append(position)
            minute.append(_minutes(fields[0]))
            name.append(numbers.setdefault(fields[1], len(numbers)))
            value.append(float(fields[2]))
    return Rows(
        record=np.array(record, dtype=np.int64), minute=np.array(minute, dtype=np.int64), name=np.array(name, dtype=np.int64),
        value=np.array(value, dtype=np.float64), names=list(numbers), nameless=nameless,
    )  # fmt: skip


def _lines(source: Record) -> list[str]:
    try:
        lines = source.text.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source.file}: is not text in UTF-8 ({error}); get the record again from its source") from error
    if lines[0].strip() != HEADER.decode():
        _refuse(source, 1, lines[0], f"the header {HEADER.decode()}")
    return lines


def _minutes(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return 60 * int(hours) + int(minutes)


def _refuse(source: Record, line: int, found: str, expected: str) -> NoReturn:
    raise InputError(f"{source.file}, line {line}: expected {expected}, got {found[:60]!r}; correct or remove it")
