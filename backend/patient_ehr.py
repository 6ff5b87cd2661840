"""The older system's folders of parquet files as a source of stays; its own splits are kept.

    patient_ehr/{train,valid,test}/<stay_id>.parquet    variable, value, minute, optionally set_index
    oc.csv                                              ts_id, then one column per outcome
    stats.csv                                           variable, mean, std, count: compared with what occurs, never used
    cached.csv                                          optional: variable, then its embedding

A set is what shares a set_index, or a minute where there is none. Rare and constant variables stay.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backend.grouping import group_sets
from backend.patient_ehr_tables import describe_differences, read_embeddings, read_labels, read_stats, stay_name
from backend.preparing import Progress
from backend.store_writer import Chunk
from shared.dataset import SPLITS
from shared.errors import InputError

FOLDER = "patient_ehr"
COLUMNS = ("variable", "value", "minute", "set_index")
EVENTS_PER_CHUNK = 500_000
FLOAT32_MAX = float(np.finfo(np.float32).max)


class PatientEhr:
    """One folder in the older layout, with its tables beside it unless their paths are given.

    Raises:
        InputError: a folder or table is missing or malformed, or a stay lies in two splits.
    """

    kind = "patient_ehr"
    simulated = False

    def __init__(self, folder: Path, *, params_map_path: Path | None = None, label_path: Path | None = None) -> None:
        ehr = folder if folder.resolve().name == FOLDER else folder / FOLDER
        beside = ehr.resolve().parent
        self.name = f"patient_ehr {beside.name}"
        self.units: dict[str, str] = {}
        self._files = _find_files(ehr)
        self._split = {stay_name(file.stem): file.parent.name for file in self._files}
        self._outcomes = read_labels(label_path or beside / "oc.csv")
        self.labels = [str(name) for name in self._outcomes if self._outcomes[name].dropna().isin([0, 1]).all()]
        self._stats = read_stats(params_map_path or beside / "stats.csv", required=params_map_path is not None)
        self._cached = read_embeddings(beside / "cached.csv")
        self._counts: Counter[str] = Counter()
        self._empty: list[str] = []
        self._notes: dict[str, Any] = {}

    @property
    def read(self) -> dict[str, Any]:
        """Counts of what was read, dropped and kept so far."""
        counts = self._counts
        return {
            "files": len(self._files),
            "rows": counts["rows"],
            "dropped: rows without a variable name": counts["nameless"],
            "dropped: rows without a finite value": counts["valueless"],
            "dropped: rows without a minute or set_index": counts["timeless"],
            "dropped: stays without events": self._empty,
            "kept: repeats of stay, set and variable": counts["repeats"],
            "kept: stays sorted by time": counts["unsorted"],
            "outcomes": len(self._outcomes),
            "outcomes without a stay": int((~self._outcomes.index.isin(list(self._split))).sum()),
            **self._notes,
        }

    def chunks(self, progress: Progress) -> Iterator[Chunk]:
        """Stays by split, then by name, some hundred thousand events at a time."""
        tables: dict[str, pa.Table] = {}
        events = 0
        for number, file in enumerate(self._files, start=1):
            table = _read_stay(file)
            tables[stay_name(file.stem)] = table
            events += len(table)
            if events >= EVENTS_PER_CHUNK or number == len(self._files):
                yield from self._chunk(tables)
                progress("reading stays", number / len(self._files))
                tables, events = {}, 0

    def outcomes(self, stays: pd.DataFrame) -> pd.DataFrame:
        """`stays` with its split and one column per outcome; NaN where oc.csv has none."""
        matched = stays["stay_id"].isin(self._outcomes.index)
        if not matched.any():
            raise InputError(
                f"{self.name}: none of the {len(self._outcomes):,} ts_id in oc.csv is one of the {len(stays):,} stays, such as "
                f"{stays['stay_id'].iloc[0]!r}; is it the label file of these stays?"
            )
        self._notes["stays without an outcome row"] = int((~matched).sum())
        found = self._outcomes.reindex(stays["stay_id"])
        return stays.assign(
            split=stays["stay_id"].map(self._split), **{str(column): found[column].to_numpy(np.float32) for column in found}
        )

    def embeddings(self, names: list[str]) -> np.ndarray | None:
        """Rows of cached.csv by name [V, dim], NaN where it has none; also settles what differs from stats.csv."""
        self._notes.update(describe_differences(names, self._stats, "stats.csv"))
        self._notes.update(describe_differences(names, self._cached, "cached.csv"))
        return None if self._cached is None else self._cached.reindex(names).to_numpy(np.float32)

    def _chunk(self, tables: dict[str, pa.Table]) -> Iterator[Chunk]:
        """The stays of some files, without the rows that say nothing."""
        events = pa.concat_tables(tables.values()).to_pandas()
        stay = np.repeat(np.arange(len(tables)), [len(table) for table in tables.values()])
        kept = self._usable(events).to_numpy()
        ids = np.array(list(tables), dtype=object)
        self._empty += ids[np.bincount(stay[kept], minlength=len(ids)) == 0].tolist()
        if not kept.any():
            return
        events = events[kept]
        variable, names = pd.factorize(events["variable"])
        group = group_sets(stay[kept], events["key"].to_numpy(), events["minute"].to_numpy(), variable)
        self._counts.update(repeats=group.repeats, unsorted=group.unsorted)
        ids = ids[group.stays]
        yield Chunk(
            stays=pd.DataFrame({"stay_id": ids, "subject_id": ids}, dtype="str"),
            set_count=group.set_count, set_size=group.set_size, set_minute=group.set_minute,
            variable=variable[group.order], value=events["value"].to_numpy()[group.order], names=[str(name) for name in names],
        )  # fmt: skip

    def _usable(self, events: pd.DataFrame) -> pd.Series:
        """True for events with a name, a finite value and a time; the others are counted under the first that they lack."""
        unnamed = events["variable"].isna() | (events["variable"].str.strip() == "")
        valueless = ~(events["value"].abs() <= FLOAT32_MAX) & ~unnamed
        timeless = ~np.isfinite(events["minute"] + events["key"]) & ~unnamed & ~valueless
        self._counts.update(
            rows=len(events), nameless=int(unnamed.sum()), valueless=int(valueless.sum()), timeless=int(timeless.sum())
        )
        return ~(unnamed | valueless | timeless)


def _find_files(ehr: Path) -> list[Path]:
    """The parquet files of the three splits, by split and name; every stay once."""
    for folder in (ehr, *(ehr / split for split in SPLITS)):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected {FOLDER}/ with train/, valid/ and test/ in it")
    files = [file for split in SPLITS for file in sorted((ehr / split).glob("*.parquet"))]
    if not any(file.parent.name == "train" for file in files):
        raise InputError(f"{ehr / 'train'}: no *.parquet in it; there is nothing to train on")
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(stay_name(file.stem), file)
        if other is not file:
            raise InputError(f"{file}: stay {stay_name(file.stem)} is also in {other}; keep one of the two")
    return files


def _read_stay(file: Path) -> pa.Table:
    """All rows of one file: variable (string), value, minute and key (set_index, or minute; float64)."""
    try:
        with pq.ParquetFile(file) as parquet:
            table = parquet.read([name for name in COLUMNS if name in parquet.schema_arrow.names])
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file}: cannot be read as parquet ({error}); write it again") from error
    for column in COLUMNS[:3]:
        if column not in table.column_names:
            raise InputError(f"{file}: no column {column!r}; expected variable, value, minute and optionally set_index")
    minute = _as_type(table, "minute", pa.float64(), file)
    key = _as_type(table, "set_index", pa.float64(), file) if "set_index" in table.column_names else minute
    variable = _as_type(table, "variable", pa.large_string(), file)
    return pa.table({"variable": variable, "value": _as_type(table, "value", pa.float64(), file), "minute": minute, "key": key})


def _as_type(table: pa.Table, column: str, kind: pa.DataType, file: Path) -> pa.ChunkedArray:
    try:
        return table[column].cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{file}, column {column!r}: expected {kind}, got {table[column].type} ({error})") from error
