"""Reconstruction snapshots of a run, as the page needs them: which there are, and their contents, read once and shared.

What was read is remembered by path, time of change and size, and the least recently used forgotten: whole snapshots are large,
so only a few; figures by variable are small, so those of several long runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dashboard.reconstruction.presence import Presence
from shared.errors import InputError
from shared.layout import SCHEMA_VERSION, RunLayout
from shared.reconstruction_stats import by_variable

ERRORS = ("variable", "std", "error", "error_in_std")
NAMES, LISTS = ("stay_id", "variable"), ("probability", "occurred")
COLUMNS = ("stay_id", "minute", "observed", "reconstructed", *ERRORS)
STEP, CHECKPOINT = "step-", "checkpoint-"
"""How a snapshot is named in an address."""
Version = tuple[str, int, int]
"""Path, time of change in ns and size in bytes: what was read of a file holds as long as these do."""


@dataclass(frozen=True)
class Source:
    """One snapshot: made after a step of training, or later from a checkpoint."""

    key: str
    label: str
    path: Path
    presence: Path
    latents: Path
    step: int | None = None


@dataclass(frozen=True)
class Events:
    """One snapshot. `frame` has stay and variable as categories, hour since admission, and the other `COLUMNS`."""

    frame: pd.DataFrame
    units: Mapping[str, str]

    @property
    def has_std(self) -> bool:
        """Whether the decoder says how sure it is."""
        return bool(self.frame["std"].notna().any())

    def unit(self, variable: str) -> str:
        """Of a variable; where the run does not say, that it is unknown."""
        return self.units.get(variable, "unit unknown")


@dataclass(frozen=True)
class History:
    """Figures by variable (see `by_variable`) of every snapshot that could be read, and what could not."""

    steps: np.ndarray
    frames: Sequence[pd.DataFrame]
    problems: Sequence[str]

    def of(self, variable: str, figure: str) -> np.ndarray:
        """One figure of one variable over `steps`; NaN where it did not occur."""
        return np.array([frame[figure].get(variable, np.nan) for frame in self.frames], float)


def sources(layout: RunLayout) -> list[Source]:
    """All snapshots: steps in order, then checkpoints."""
    found = [
        Source(f"{STEP}{step}", f"step {step:,}", path, layout.presence(step), layout.latents(step), step)
        for step, path in layout.snapshots("reconstruction")
    ]
    return found + [
        Source(f"{CHECKPOINT}{name}", f"checkpoint {name}", path, layout.analysed("presence", name), layout.analysed("latents", name))
        for name, path in layout.all_analysed("reconstruction")
    ]  # fmt: skip


def newest(found: Sequence[Source]) -> Source | None:
    """The snapshot after the latest step; a checkpoint only where there is no step."""
    return next((source for source in reversed(found) if source.step is not None), found[-1] if found else None)


def read_events(path: Path) -> Events:
    """A whole snapshot.

    Raises:
        InputError: the file is gone, damaged, of an unknown version or lacks a column; the message names it.
    """
    return _events(_version(path))


def read_presence(path: Path) -> Presence | None:
    """Expected and occurred variables; None where the snapshot has none.

    Raises:
        InputError: as `read_events`.
    """
    return _presence(_version(path)) if path.exists() else None


def read_outcomes(path: Path) -> dict[str, float]:
    """Outcome by stay, of the latents of the same evaluation; empty where that is missing, stays without a label left out.

    Raises:
        InputError: as `read_events`.
    """
    return _outcomes(_version(path)) if path.exists() else {}


def read_history(found: Sequence[Source]) -> History:
    """Figures by variable over all steps; a snapshot that cannot be read is named among the problems."""
    steps, frames, problems = [], [], []
    for source in found:
        if source.step is None:
            continue
        try:
            frames.append(_by_variable(_version(source.path)))
            steps.append(source.step)
        except InputError as error:
            problems.append(str(error))
    return History(np.array(steps), frames, problems)


def _version(path: Path) -> Version:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{_short(path)}: {error.strerror}; choose another snapshot") from error
    return str(path), status.st_mtime_ns, status.st_size


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever is wrong with the bytes of a file, the error names it: a damaged parquet fails in many ways, and late."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{_short(path)}: no readable parquet ({reason}); delete the file, or restore it from a copy"
        ) from error


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    name = _short(path)
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        version = (schema.metadata or {}).get(b"schema_version", b"missing").decode()
        if version != str(SCHEMA_VERSION):
            raise InputError(f"{name}: schema_version is {version}; this release reads {SCHEMA_VERSION}: update the dashboard")
        for column in columns:
            kind = schema.field(column).type if column in schema.names else None
            fits = kind is not None and (column in NAMES or pa.types.is_list(kind) == (column in LISTS))
            if not fits:
                raise InputError(
                    f"{name}: column {column!r} is {kind or 'missing'}; delete the file, or restore it from a copy"
                )
        return file.read(columns=list(columns))


def _attribute(table: pa.Table, name: str) -> object:
    """One of the attributes of the frame that was written, which parquet keeps beside it."""
    stored = (table.schema.metadata or {}).get(b"pandas")
    found = orjson.loads(stored).get("attributes") if stored else None
    return found.get(name) if isinstance(found, dict) else None


def _frame(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas(ignore_metadata=True)
    numbers = [name for name in frame.columns if name not in NAMES]
    frame[numbers] = frame[numbers].astype(float).replace([np.inf, -np.inf], np.nan)
    frame["variable"] = _category(frame["variable"])
    return frame


def _category(column: pd.Series) -> pd.Series:
    """Text as a category; as the trainer writes it, it is one already."""
    done = isinstance(column.dtype, pd.CategoricalDtype) and not column.isna().any()
    return column if done else column.astype(str).astype("category")


@lru_cache(maxsize=4)
def _events(version: Version) -> Events:
    with _named(Path(version[0])):
        table = _table(Path(version[0]), COLUMNS)
        frame = _frame(table)
        frame["stay"] = _category(frame.pop("stay_id"))
        frame["hour"] = frame.pop("minute") / 60
        units = _attribute(table, "units")
        return Events(frame, {str(k): str(v) for k, v in units.items()} if isinstance(units, dict) else {})


@lru_cache(maxsize=1024)
def _by_variable(version: Version) -> pd.DataFrame:
    with _named(Path(version[0])):
        return by_variable(_frame(_table(Path(version[0]), ERRORS)))


@lru_cache(maxsize=4)
def _outcomes(version: Version) -> dict[str, float]:
    with _named(Path(version[0])):
        frame = _table(Path(version[0]), ("stay_id", "outcome")).to_pandas(ignore_metadata=True).dropna()
        return dict(zip(frame["stay_id"].astype(str), frame["outcome"].astype(float), strict=True))


@lru_cache(maxsize=4)
def _presence(version: Version) -> Presence:
    path = Path(version[0])
    with _named(path):
        table = _table(path, ("stay_id", "minute", *LISTS))
        names = _attribute(table, "variables")
        probability, occurred = (table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in LISTS)
        if not isinstance(names, list) or not len(probability) == len(occurred) == table.num_rows * len(names):
            raise InputError(f"{_short(path)}: the lists are not of the length of its variables; delete the file")
        shape = (table.num_rows, len(names))
        return Presence(
            names=tuple(map(str, names)),
            stay=table["stay_id"].to_pandas().astype(str).to_numpy(),
            hour=table["minute"].to_numpy().astype(float) / 60,
            probability=probability.astype(np.float32).reshape(shape),
            occurred=occurred.astype(bool).reshape(shape),
        )
