"""The tables beside patient_ehr/: outcomes, statistics, embeddings of variables."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.errors import InputError

MORTALITY = "in_hospital_mortality"


def stay_name(text: str) -> str:
    """A stay's id as files and tables spell it: the older system wrote 30101877 also as 30101877.0."""
    return re.sub(r"^([0-9]+)\.0+$", r"\1", text.strip())


def read_labels(file: Path) -> pd.DataFrame:
    """oc.csv: index `ts_id` (strings), one float64 column per outcome, NaN where the cell is empty.

    Raises:
        InputError: no such file, no ts_id, no outcome column, a ts_id twice, a cell that is no number, or a mortality
            that is neither 0 nor 1.
    """
    table = _read_csv(file, "the outcomes: ts_id, then one column per outcome")
    if "ts_id" not in table or len(table.columns) < 2:
        raise InputError(f"{file}, line 1: expected ts_id and at least one outcome, got {', '.join(map(str, table.columns))}")
    ids = table["ts_id"].map(stay_name)
    twice = ids[ids.duplicated()]
    if len(twice):
        raise InputError(f"{file}, line {twice.index[0]}: ts_id {twice.iloc[0]} was there before; keep one row per stay")
    outcomes = {str(column): _numbers(table[column], file) for column in table.columns if column != "ts_id"}
    deaths = outcomes.get(MORTALITY, np.zeros(0))
    wrong = np.flatnonzero(~np.isnan(deaths) & (deaths != 0) & (deaths != 1))
    if len(wrong):
        raise InputError(
            f"{file}, line {table.index[wrong[0]]}, column {MORTALITY}: expected 0, 1 or nothing, got {deaths[wrong[0]]:g}"
        )
    return pd.DataFrame(outcomes).set_index(pd.Index(ids, name="ts_id"))


def read_stats(file: Path, *, required: bool) -> pd.DataFrame | None:
    """stats.csv by variable; None if it is absent and not `required`.

    Raises:
        InputError: required and absent, no column `variable`, or a variable twice.
    """
    if not required and not file.exists():
        return None
    table = _read_csv(file, "the older system's statistics: variable, mean, std, count")
    if "variable" not in table:
        raise InputError(f"{file}, line 1: no column variable; expected variable, mean, std, count")
    return _by_name(table, list(table.columns).index("variable"), file).set_index("variable")


def read_embeddings(file: Path) -> pd.DataFrame | None:
    """cached.csv: index the variable's name (the first column), float64 columns; None if there is no such file.

    Raises:
        InputError: no numbers in it, a cell that is empty or no number, or a variable twice.
    """
    if not file.exists():
        return None
    table = _by_name(_read_csv(file, "embeddings: a variable's name, then its numbers"), 0, file)
    if len(table.columns) < 2 or not len(table):
        raise InputError(f"{file}: no embeddings in it; expected a variable's name, then its numbers, or no such file")
    numbers = pd.DataFrame({column: _numbers(table[column], file) for column in table.columns[1:]})
    incomplete = np.flatnonzero(numbers.isna().any(axis=1))
    if len(incomplete):
        line = table.index[incomplete[0]]
        raise InputError(f"{file}, line {line}: an empty cell; expected {len(numbers.columns)} numbers in every line")
    return numbers.set_index(pd.Index(table.iloc[:, 0]))


def describe_differences(names: list[str], table: pd.DataFrame | None, file: str) -> dict[str, Any]:
    """What the vocabulary and a table of variables do not share, for the summary."""
    if table is None:
        return {file: "absent"}
    known, present = set(table.index), set(names)
    return {
        f"variables missing from {file}": sorted(present - known),
        f"variables of {file} that never occur": sorted(known - present),
    }


def _read_csv(file: Path, what: str) -> pd.DataFrame:
    """All cells as text, so that names and ids such as "NA" or "007" stay as they are; the index is the line in the file."""
    try:
        table = pd.read_csv(
            file, dtype="str", keep_default_na=False, na_filter=False, skip_blank_lines=False, encoding="utf-8-sig"
        )
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file; expected {what}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a table ({error}); expected {what}") from error
    table.index = pd.RangeIndex(2, len(table) + 2)
    return table[(table != "").any(axis=1)]


def _by_name(table: pd.DataFrame, column: int, file: Path) -> pd.DataFrame:
    """`table`, having checked that no name stands twice in its column number `column`."""
    names = table.iloc[:, column]
    twice = names[names.duplicated()]
    if len(twice):
        raise InputError(
            f"{file}, line {twice.index[0]}: variable {twice.iloc[0]!r} was there before; keep one line per variable"
        )
    return table


def _numbers(cells: pd.Series, file: Path) -> np.ndarray:
    """Text cells as float64, an empty one as NaN."""
    text = cells.str.strip()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    wrong = cells[(text != "").to_numpy() & ~np.isfinite(numbers)]
    if len(wrong):
        raise InputError(
            f"{file}, line {wrong.index[0]}, column {cells.name}: expected a number or nothing, got {wrong.iloc[0]!r}"
        )
    return numbers
