"""The tables beside patient_ehr/: outcomes, statistics, embeddings of variables."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.errors import InputError


def stay_name(text: str) -> str:
    """A stay's id as files and tables spell it: the older system wrote 30101877 also as 30101877.0."""
    return re.sub(r"^([0-9]+)\.0+$", r"\1", text.strip())


def read_labels(file: Path) -> pd.DataFrame:
    """oc.csv: index `ts_id` (strings), one float64 column per outcome, NaN where the cell is empty.

    Raises:
        InputError: no such file, no ts_id, no outcome column, a ts_id twice, or a cell that is no number.
    """
    table = _read_csv(file, "the outcomes: ts_id, then one column per outcome")
    if "ts_id" not in table or len(table.columns) < 2:
        raise InputError(f"{file}, line 1: expected ts_id and at least one outcome, got {', '.join(map(str, table.columns))}")
    ids = table["ts_id"].map(stay_name)
    twice = np.flatnonzero(ids.duplicated(keep=False))
    if len(twice):
        raise InputError(
            f"{file}, line {twice[0] + 2}: ts_id {ids.iloc[twice[0]]} stands there twice or more; keep one row per stay"
        )
    outcomes = {str(column): _numbers(table[column], file) for column in table.columns if column != "ts_id"}
    return pd.DataFrame(outcomes, index=None).set_index(pd.Index(ids, name="ts_id"))


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
    return _by_name(table, "variable", file)


def read_embeddings(file: Path) -> pd.DataFrame | None:
    """cached.csv: index the variable's name (the first column), float64 columns; None if there is no such file.

    Raises:
        InputError: no numbers in it, a cell that is empty or no number, or a variable twice.
    """
    if not file.exists():
        return None
    table = _read_csv(file, "embeddings: a variable's name, then its numbers")
    named = _by_name(table, table.columns[0], file)
    if not len(named.columns) or not len(named):
        raise InputError(f"{file}: no embeddings in it; expected a variable's name, then its numbers, or no such file")
    numbers = pd.DataFrame({column: _numbers(named[column], file) for column in named})
    incomplete = np.flatnonzero(numbers.isna().any(axis=1))
    if len(incomplete):
        raise InputError(
            f"{file}, line {incomplete[0] + 2}: an empty cell; expected {len(named.columns)} numbers in every line"
        )
    return numbers.set_index(named.index)


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
    """All cells as text, so that names and ids such as "NA" or "007" stay as they are."""
    try:
        return pd.read_csv(file, dtype="str", keep_default_na=False, na_filter=False, skip_blank_lines=False)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file; expected {what}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a table ({error}); expected {what}") from error


def _by_name(table: pd.DataFrame, column: str, file: Path) -> pd.DataFrame:
    twice = np.flatnonzero(table[column].duplicated())
    if len(twice):
        name = table[column].iloc[twice[0]]
        raise InputError(f"{file}, line {twice[0] + 2}: variable {name!r} was there before; keep one line per variable")
    return table.set_index(column)


def _numbers(cells: pd.Series, file: Path) -> np.ndarray:
    """Text cells as float64, an empty one as NaN."""
    numbers = pd.to_numeric(cells.str.strip(), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers) & (cells.str.strip() != "").to_numpy())
    if len(wrong):
        line = int(wrong[0])
        raise InputError(
            f"{file}, line {line + 2}, column {cells.name}: expected a number or nothing, got {cells.iloc[line]!r}"
        )
    return numbers
