"""The PhysioNet 2012 challenge as a source of stays: what each row of a record means, and what is left out.

- The value -1 means "not recorded" in every variable (descriptors such as Height, pressures in set-c): dropped, counted.
  Nothing else is: implausible values, and temperatures below -1, stay as they are; standardising clips to quantiles.
- Rows without a variable name, and records of descriptors alone, are dropped and counted.
- A variable repeated in one minute stays repeated: a set is a multiset.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backend.grouping import group_sets
from backend.physionet_files import LABEL, find_sets, read_outcomes, read_records
from backend.physionet_records import Record, Rows, parse_records
from backend.preparing import Progress
from backend.store_writer import Chunk
from shared.errors import InputError

BLOCK_BYTES = 4 << 20
NOT_RECORDED = -1.0
RECORD_ID = "RecordID"
DESCRIPTORS = ("Age", "Gender", "Height", "ICUType", "Weight")
UNITS = {
    "Age": "years", "Gender": "1: male, 0: female", "Height": "cm", "Weight": "kg",
    "ICUType": "1: coronary, 2: cardiac surgery, 3: medical, 4: surgical",
    "ALP": "IU/L", "ALT": "IU/L", "AST": "IU/L", "Albumin": "g/dL", "BUN": "mg/dL", "Bilirubin": "mg/dL",
    "Cholesterol": "mg/dL", "Creatinine": "mg/dL", "DiasABP": "mmHg", "FiO2": "fraction", "GCS": "points", "Glucose": "mg/dL",
    "HCO3": "mmol/L", "HCT": "%", "HR": "bpm", "K": "mEq/L", "Lactate": "mmol/L", "MAP": "mmHg", "MechVent": "1: ventilated",
    "Mg": "mmol/L", "NIDiasABP": "mmHg", "NIMAP": "mmHg", "NISysABP": "mmHg", "Na": "mEq/L", "PaCO2": "mmHg", "PaO2": "mmHg",
    "Platelets": "cells/nL", "RespRate": "breaths/min", "SaO2": "%", "SysABP": "mmHg", "Temp": "°C", "TroponinI": "ug/L",
    "TroponinT": "ug/L", "Urine": "mL", "WBC": "cells/nL", "pH": "",
}  # fmt: skip
"""As the challenge's description states them."""


class Physionet2012:
    """The sets and outcomes of one folder.

    Raises:
        InputError: no sets or no outcomes in it.
    """

    kind = "physionet2012"
    simulated = False

    def __init__(self, folder: Path) -> None:
        self.labels = [LABEL]
        self.units = UNITS
        self._sets = find_sets(folder)
        self._outcomes = read_outcomes(folder)
        self._file_of: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._not_recorded: Counter[str] = Counter()
        self._negative: Counter[str] = Counter()
        self._no_time_series: list[str] = []
        self.name = "physionet2012 " + " ".join(path.name.partition(".")[0] for path in self._sets)

    @property
    def read(self) -> dict[str, Any]:
        """Counts of what was read, dropped and kept so far."""
        counts = self._counts
        return {
            "files": [path.name for path in self._sets],
            "records": len(self._file_of),
            "rows": counts["rows"],
            "dropped: not recorded (-1)": dict(sorted(self._not_recorded.items())),
            "dropped: rows without a variable name": counts["nameless"],
            "dropped: records without a time series": self._no_time_series,
            "kept: repeats of record, minute and variable": counts["repeats"],
            "kept: other negative values": dict(sorted(self._negative.items())),
            "kept: records sorted by time": counts["unsorted"],
            "outcomes": len(self._outcomes),
            "outcomes without a record": int((~self._outcomes.index.isin(list(self._file_of))).sum()),
            "stays without an outcome row": counts["unlabelled"],
        }

    def chunks(self, progress: Progress) -> Iterator[Chunk]:
        """Records in file order, some megabytes at a time."""
        for path in self._sets:
            block: list[Record] = []
            size = 0
            for record, done in read_records(path):
                self._remember(record)
                block.append(record)
                size += len(record.text)
                if size >= BLOCK_BYTES:
                    yield from self._chunk(block)
                    progress(f"reading {path.name}", done)
                    block, size = [], 0
            yield from self._chunk(block)
            progress(f"reading {path.name}", 1.0)

    def outcomes(self, stays: pd.DataFrame) -> pd.DataFrame:
        """`stays` with one column per outcome; NaN where the outcomes have no row or say -1."""
        found = self._outcomes.reindex(stays["stay_id"])
        matched = stays["stay_id"].isin(self._outcomes.index)
        if not matched.any():
            raise InputError(
                f"{self.name}: none of {len(self._outcomes):,} outcome rows belongs to one of {len(stays):,} records; "
                "are these the Outcomes-*.txt of the same sets?"
            )
        self._counts["unlabelled"] = int((~matched).sum())
        return stays.assign(**{str(column): found[column].to_numpy() for column in found})

    def embeddings(self, names: list[str]) -> None:
        """None: the challenge has none."""

    def _remember(self, record: Record) -> None:
        other = self._file_of.setdefault(record.id, record.file)
        if other is not record.file:
            raise InputError(f"{record.file}: record {record.id} was already in {other}; keep one of the two")

    def _chunk(self, block: list[Record]) -> Iterator[Chunk]:
        """The block's stays; none if it has none with a time series."""
        if not block:
            return
        rows = parse_records(block)
        self._counts["rows"] += len(rows.value) + rows.nameless
        self._counts["nameless"] += rows.nameless
        rows = self._without_ids(rows, block)
        missing = rows.value == NOT_RECORDED
        self._count_by_name(self._not_recorded, rows, missing)
        self._count_by_name(self._negative, rows, (rows.value < 0) & ~missing)
        kept = self._with_time_series(rows, block, ~missing)
        if not kept.any():
            return
        group = group_sets(rows.record[kept], rows.minute[kept], rows.minute[kept], rows.name[kept])
        self._counts["unsorted"] += group.unsorted
        self._counts["repeats"] += group.repeats
        ids = [block[position].id for position in group.stays]
        name = rows.name[kept][group.order]
        used = np.flatnonzero(np.bincount(name))
        variable = np.searchsorted(used, np.arange(len(rows.names)))[name]
        yield Chunk(
            stays=pd.DataFrame({"stay_id": ids, "subject_id": ids}, dtype="str"),
            set_count=group.set_count, set_size=group.set_size, set_minute=group.set_minute,
            variable=variable, value=rows.value[kept][group.order], names=[rows.names[index] for index in used],
        )  # fmt: skip

    def _without_ids(self, rows: Rows, block: list[Record]) -> Rows:
        """Drop the rows that repeat the record's id, having compared them with the file's name."""
        if RECORD_ID not in rows.names:
            return rows
        is_id = rows.name == rows.names.index(RECORD_ID)
        for position, value in zip(rows.record[is_id], rows.value[is_id], strict=True):
            record = block[position]
            if not (record.id.isdecimal() and int(record.id) == value):
                raise InputError(f"{record.file}: its RecordID says {value:.0f}, its name {record.id}; rename or remove it")
        return Rows(rows.record[~is_id], rows.minute[~is_id], rows.name[~is_id], rows.value[~is_id], rows.names, rows.nameless)

    def _with_time_series(self, rows: Rows, block: list[Record], kept: np.ndarray) -> np.ndarray:
        """`kept` without the rows of records in which nothing but descriptors on admission was recorded."""
        static = np.isin(rows.name, [index for index, name in enumerate(rows.names) if name in DESCRIPTORS]) & (
            rows.minute == 0
        )
        measured = np.bincount(rows.record[kept & ~static], minlength=len(block)) > 0
        self._no_time_series += [record.id for record, has in zip(block, measured, strict=True) if not has]
        return kept & measured[rows.record]

    @staticmethod
    def _count_by_name(counter: Counter[str], rows: Rows, chosen: np.ndarray) -> None:
        for index, count in enumerate(np.bincount(rows.name[chosen], minlength=len(rows.names))):
            if count:
                counter[rows.names[index]] += int(count)
