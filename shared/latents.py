"""Reading a latents snapshot: the posterior means of sets as a matrix, and the states of the transformer where there are any."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import InputError
from shared.layout import SCHEMA_VERSION

Of = Literal["latents", "states"]
"""What a picture is of: posterior means of the sets, or causal states of the transformer"""
NEEDED = ("stay_id", "set_row", "minute", "outcome", "mu")


@dataclass(frozen=True)
class LatentSets:
    """N sets of a snapshot."""

    stay: np.ndarray
    """[N] whose each set is, as text"""
    row: np.ndarray
    """[N] the set, a row of the data set"""
    minute: np.ndarray
    """[N] since admission"""
    outcome: np.ndarray
    """[N] of the stay, NaN where unknown"""
    sampled: np.ndarray
    """[N] whether it belongs to the sample that the run's figures rest on"""
    mu: np.ndarray
    """[N, D] posterior means, float32"""
    state: np.ndarray | None
    """[N, W] states, NaN where not known; None where the snapshot has none at all"""

    def points(self, of: Of) -> tuple[np.ndarray, np.ndarray]:
        """Indices [n] of the sets that have finite values, and those values [n, D]; nothing for states that there are not."""
        matrix = self.mu if of == "latents" else self.state
        if matrix is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        kept = np.flatnonzero(np.isfinite(matrix).all(axis=1))
        return kept, matrix if len(kept) == len(matrix) else matrix[kept]


def fingerprint(path: Path) -> str:
    """Of the bytes of a file: what was worked out from it holds as long as this stays the same."""
    return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()


def read_latents(path: Path) -> LatentSets:
    """Read one snapshot.

    Raises:
        InputError: missing, no parquet, of an unknown version, without a column that it has to have, or with latents of
            unequal lengths; the message names it.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    version = (table.schema.metadata or {}).get(b"schema_version", b"none").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        raise InputError(f"{path}: schema_version is {version}; this release reads {SCHEMA_VERSION}")
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}")
    try:
        return LatentSets(
            stay=np.array([str(stay) for stay in table["stay_id"].to_pylist()], dtype=object),
            row=table["set_row"].to_numpy(),
            minute=table["minute"].to_numpy().astype(np.float32),
            outcome=table["outcome"].to_numpy().astype(np.float32),
            sampled=table["sampled"].to_numpy().astype(bool) if "sampled" in table.column_names else np.ones(len(table), bool),
            mu=_matrix(table["mu"]),
            state=_matrix(table["state"]) if "state" in table.column_names else None,
        )
    except (ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise InputError(f"{path}: a column is not what it has to be ({error})") from error


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length as [N, D] float32, NaN where a list is null."""
    lists = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(lists, pa.ChunkedArray):
        raise ValueError("lists in more than one piece")
    known = np.asarray(lists.is_valid())
    sizes = np.asarray(lists.value_lengths().drop_null())
    width = int(sizes[0]) if len(sizes) else 0
    if (sizes != width).any():
        raise ValueError(f"lists of {sizes.min()} to {sizes.max()} numbers where all have to be of one length")
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(sizes), width)
    if known.all():
        return values
    matrix = np.full((len(known), width), np.nan, np.float32)
    matrix[known] = values
    return matrix
