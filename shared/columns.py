"""Rows of a log by column, parsed fast; line by line is `shared.reader`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from shared.layout import SCHEMA_VERSION


@dataclass(frozen=True)
class Columns:
    """Rows of a log by column."""

    arrays: Mapping[str, np.ndarray]
    """[N] each: numbers, with NaN where a row has none; objects where some value is no number, with None."""

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "Columns":
        """Any rows with steps."""
        names = dict.fromkeys(name for row in rows for name in row)
        arrays = {name: _objects([row.get(name) for row in rows]) for name in names}
        return cls({name: np.array(array.tolist()) if name == "step" else array for name, array in arrays.items()})

    def __len__(self) -> int:
        return len(self.arrays["step"]) if self.arrays else 0

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def numbers(self, name: str) -> np.ndarray:
        """One column as floats, [N]: NaN for whatever is no finite number, or is not there."""
        column = self.arrays.get(name)
        if column is None:
            return np.full(len(self), np.nan)
        if column.dtype == object:  # lists or text among numbers, or a column that is null throughout
            column = np.array([value if isinstance(value, int | float) else np.nan for value in column], float)
        values = column.astype(float)
        return np.where(np.isinf(values), np.nan, values)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows, each with all columns."""
        for values in zip(*(array.tolist() for array in self.arrays.values()), strict=True):
            yield dict(zip(self.arrays, values, strict=True))


def parsed(data: bytes) -> Columns | None:
    """The rows by pyarrow, or None where only `JsonlTail.read` is right.

    pyarrow 26.0.1 takes NaN and several objects on a line, reads a text that looks like a time as a time, fails late (where
    the values are used) on bytes that are no UTF-8, and a line `null` ends the whole process.
    """
    if not data:
        return Columns({})
    characters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    lines, begins = len(ends), np.concatenate([[0], ends[:-1] + 1])
    if not (characters[begins] == ord("{")).all() or not data.isascii() or _has(data, b"NaN") or _has(data, b"Inf"):
        return None
    try:
        table = pa_json.read_json(pa.BufferReader(data))
    except pa.ArrowInvalid:
        return None
    kinds = dict(zip(table.schema.names, table.schema.types, strict=True))
    if "step" not in kinds or not pa.types.is_int64(kinds["step"]) or table["step"].null_count or len(table) != lines:
        return None
    if any(pa.types.is_timestamp(kind) or pa.types.is_struct(kind) for kind in kinds.values()):
        return None
    columns = Columns({name: _array(table[name]) for name in kinds})
    return columns if _known_version(columns) else None


def _objects(values: list[Any]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]  # the None keeps numpy from making a matrix of lists


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """Not by pyarrow's own conversions: they import pandas, a quarter of a second of a dashboard's start."""
    if not (pa.types.is_int64(column.type) or pa.types.is_float64(column.type)):
        return _objects(column.to_pylist())
    return np.concatenate([_numbers(chunk) for chunk in column.chunks])


def _numbers(chunk: pa.Array) -> np.ndarray:
    """Values of 8 bytes behind a bitmap of which of them are there."""
    part = slice(chunk.offset, chunk.offset + len(chunk))
    there, values = chunk.buffers()
    found = np.frombuffer(values, np.int64 if pa.types.is_int64(chunk.type) else np.float64)[part]
    if not chunk.null_count:
        return found
    return np.where(np.unpackbits(np.frombuffer(there, np.uint8), bitorder="little")[part], found, np.nan)


def _has(data: bytes, word: bytes) -> bool:
    """Whether the word stands in it; a letter is looked for ten times as fast as a word, and is rarely there."""
    return word[:1] in data and word in data


def _known_version(columns: Columns) -> bool:
    name = next((name for name in ("v", "schema_version") if name in columns), None)
    return name is not None and bool((columns[name] == SCHEMA_VERSION).all())
