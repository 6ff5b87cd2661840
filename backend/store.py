"""The prepared data set on disk: events in columnar arrays that training maps into memory instead of loading.

    set_start[k]     first event of set k, and set_start[k + 1] one past its last
    set_minute[k]    minutes since admission
    event_variable   index into the vocabulary of dataset.json
    event_value      as measured, in the variable's own unit
    stays.parquet    one row per stay: ids, split, first set, counts, outcomes (NaN: not known)

Events lie by stay, then by set; within a set they keep the order of the source. Nothing here is standardised.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from shared.dataset import DATASET_JSON, DatasetInfo
from shared.errors import InputError
from shared.layout import SCHEMA_VERSION

ARRAYS: Mapping[str, type] = {
    "event_variable": np.uint16,
    "event_value": np.float32,
    "set_minute": np.float32,
    "set_start": np.int64,
}
STAYS = "stays.parquet"
EMBEDDINGS = "embeddings.npy"


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared folder: the table of stays in memory, the events mapped. S sets, E events, V variables."""

    path: Path
    info: DatasetInfo
    stays: pd.DataFrame
    """stay_id, subject_id, split, set_start, set_count, event_count, and one float column per outcome (NaN: missing)."""
    event_variable: np.ndarray
    """uint16 [E]"""
    event_value: np.ndarray
    """float32 [E], as measured"""
    set_minute: np.ndarray
    """float32 [S]"""
    set_start: np.ndarray
    """int64 [S + 1], offsets into the events"""
    embeddings: np.ndarray | None
    """float32 [V, embedding_dim]; a row of NaN where the source had no embedding for that variable"""

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Map a prepared folder.

        Raises:
            InputError: not a prepared folder, of an unknown version, or a file of it is missing, cut off or of another size.
        """
        path = Path(path)
        info = _read_info(path)
        arrays = {name: _map_array(path / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
        embeddings = _map_array(path / EMBEDDINGS, np.float32) if info.embedding_dim else None
        stays = _read_stays(path / STAYS)
        expected: dict[str, tuple[int, ...]] = {
            "event_variable": (info.events,), "event_value": (info.events,),
            "set_minute": (info.sets,), "set_start": (info.sets + 1,),
        }  # fmt: skip
        for name, shape in expected.items():
            _expect(path / f"{name}.npy", arrays[name].shape, shape)
        _expect(path / STAYS, (len(stays),), (sum(info.stays.values()),))
        if embeddings is not None:
            _expect(path / EMBEDDINGS, embeddings.shape, (len(info.variables), info.embedding_dim))
        if arrays["set_start"][-1] != info.events:
            raise InputError(f"{path / 'set_start.npy'}: does not end at {info.events:,} events; {AGAIN}")
        return cls(path, info, stays, embeddings=embeddings, **arrays)

    def split_indices(self, split: str) -> np.ndarray:
        """Row numbers in `stays` of one split ("train", "valid" or "test"), int64, ascending."""
        return np.flatnonzero(self.stays["split"].to_numpy() == split)

    def __reduce__(self) -> tuple[Any, ...]:
        """Loader processes map the folder themselves; a pickled memory map would be a copy of all events."""
        return PreparedDataset.open, (self.path,)


AGAIN = "prepare the data set again (python -m backend prepare --help)"


def _read_info(path: Path) -> DatasetInfo:
    file = path / DATASET_JSON
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected a prepared data set (python -m backend prepare --help)")
    if not file.is_file():
        raise InputError(f"{path}: has no {DATASET_JSON}, so it is not a prepared data set, or not a whole one; {AGAIN}")
    try:
        fields = orjson.loads(file.read_bytes())
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(f"{file}: schema version {version!r}, this program reads {SCHEMA_VERSION}; {AGAIN}")
        return DatasetInfo.model_validate(fields)
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise InputError(f"{file}: {error}; {AGAIN}") from error


def _read_stays(file: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file}: cannot be read ({error}); {AGAIN}") from error


def _map_array(file: Path, dtype: type) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file}: missing or cut off ({error}); {AGAIN}") from error
    if array.dtype != dtype:
        raise InputError(f"{file}: holds {array.dtype}, expected {np.dtype(dtype)}; {AGAIN}")
    return array


def _expect(file: Path, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    if shape != expected:
        raise InputError(f"{file}: {shape} values, {DATASET_JSON} says {expected}; {AGAIN}")
