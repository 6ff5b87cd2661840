"""What had been measured of the probe set's stays when each of its latents was made: written once, to colour pictures by."""

import hashlib

import numpy as np
import pandas as pd

from backend.batches import StayDataset, ranges

MOST_VARIABLES = 64
"""The most often recorded ones."""
NOT_OF_THE_STAY = {"stay_id", "subject_id", "split", "set_start", "set_count", "event_count"}


def observed_frame(dataset: StayDataset, stays: np.ndarray, sets: np.ndarray) -> pd.DataFrame:
    """Last known value of each variable at each of `sets` (rows of the data set) of `stays` (rows of its table).

    Columns set_row, variable, value (in the variable's own unit) and minute, when it was measured: at most the set's own; NaN
    for what belongs to the stay as a whole, such as an outcome. A variable that was not yet measured has no row. The frame's
    attributes hold the `units`, and a `sample` that says of which sets it is.
    """
    variables = dataset.data.info.variables
    chosen = np.argsort([-v.count for v in variables], kind="stable")[:MOST_VARIABLES]
    column = np.full(len(variables), -1)
    column[chosen] = np.arange(len(chosen))
    parts = [_of_stay(dataset, first, count, sets, column) for first, count in zip(*dataset.extent(stays), strict=True)]
    rows, code, value, minute = (np.concatenate(each) for each in zip(*parts, strict=True))
    names = [variables[i].name for i in chosen]
    events = pd.DataFrame(
        {
            "set_row": rows,
            "variable": np.array(names)[code],
            "value": value.astype(np.float32),
            "minute": minute.astype(np.float32),
        }
    )
    frame = pd.concat([events, _of_table(dataset, stays, sets, set(names))], ignore_index=True)
    frame["variable"] = frame["variable"].astype("category")
    sample = hashlib.blake2b(np.sort(sets).astype(np.int64).tobytes(), digest_size=8).hexdigest()
    frame.attrs = {"units": {v.name: v.unit for v in variables if v.unit}, "sample": sample}
    return frame


def _of_stay(
    dataset: StayDataset, first: int, count: int, wanted: np.ndarray, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Set, column, value and minute of what was known at the wanted sets of one stay."""
    data, sets = dataset.data, np.arange(first, first + count)
    start, stop = data.set_start[sets], data.set_start[sets + 1]
    events, size = ranges(start, stop - start), stop - start
    at, place = column[data.event_variable[events]], np.repeat(np.arange(count), size)
    last = np.full((count, int(column.max()) + 1), -1)
    kept = at >= 0
    last[place[kept], at[kept]] = np.flatnonzero(kept)  # of a variable that a set repeats, the last
    last = np.maximum.accumulate(last, axis=0)
    mine = np.flatnonzero(np.isin(sets, wanted))
    which, code = np.nonzero(last[mine] >= 0)
    event = last[mine[which], code]
    return sets[mine[which]], code, data.event_value[events[event]], data.set_minute[sets[place[event]]]


def _of_table(dataset: StayDataset, stays: np.ndarray, sets: np.ndarray, taken: set[str]) -> pd.DataFrame:
    """Numbers that the data set's table has of whole stays."""
    table = dataset.data.stays.iloc[stays]
    names = [
        name for name in table.columns
        if name not in NOT_OF_THE_STAY | taken | {dataset.config.label} and pd.api.types.is_numeric_dtype(table[name])
    ]  # fmt: skip
    first, count = dataset.extent(stays)
    of_set = pd.Series(np.repeat(np.arange(len(stays)), count), index=ranges(first, count)).reindex(sets).to_numpy()
    parts = [
        pd.DataFrame({"set_row": sets, "variable": name, "value": table[name].to_numpy(np.float32)[of_set], "minute": np.float32(np.nan)})
        for name in names
    ]  # fmt: skip
    empty = pd.DataFrame({"set_row": np.empty(0, np.int64), "variable": np.empty(0, str), "value": np.empty(0, np.float32),
                          "minute": np.empty(0, np.float32)})  # fmt: skip
    return pd.concat([empty, *parts]).dropna(subset="value")
