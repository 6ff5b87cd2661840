"""From a source of stays to a prepared folder: store, splits, statistics, fingerprint, `dataset.json`."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import pandas as pd

from backend.folders import appearing_whole
from backend.splits import split_by_subject
from backend.statistics import training_statistics
from backend.store import ARRAYS, EMBEDDINGS, STAYS
from backend.store_writer import Chunk, StoreWriter
from shared.dataset import DATASET_JSON, SPLITS, DatasetInfo
from shared.errors import InputError

Progress = Callable[[str, float], None]
"""Told the phase, and the share of it that is done (0 to 1)."""


class Source(Protocol):
    """What a kind of input provides; `read` fills while the chunks are drawn."""

    kind: str
    name: str
    simulated: bool
    labels: list[str]
    """Outcome columns to predict, with values 0, 1 or NaN; other columns of the stays are only kept."""
    units: dict[str, str]

    @property
    def read(self) -> dict[str, Any]:
        """What was read, dropped and why; complete after the other calls."""

    def chunks(self, progress: Progress) -> Iterator[Chunk]:
        """All stays, each once."""

    def outcomes(self, stays: pd.DataFrame) -> pd.DataFrame:
        """`stays` with float columns for labels and other outcomes, and with `split` if the source has its own."""

    def embeddings(self, names: list[str]) -> np.ndarray | None:
        """float32 [V, dim], one row per name (NaN: none), if the source has any."""


def silent(phase: str, done: float) -> None:
    """The progress of someone who does not look."""


def build(
    source: Source,
    out: Path,
    *,
    seed: int,
    valid: float = 0.15,
    test: float = 0.15,
    overwrite: bool = False,
    progress: Progress = silent,
) -> DatasetInfo:
    """Prepare `source` into the folder `out`, which appears only when it is whole.

    Raises:
        InputError: `out` is taken, or the input is bad, empty, or leaves no training stays.
    """
    with appearing_whole(out, overwrite=overwrite, marker=DATASET_JSON) as folder:
        with StoreWriter(folder) as writer:
            for chunk in source.chunks(progress):
                writer.append(chunk)
        stays = _complete(source, writer, seed, valid, test)
        stays.to_parquet(folder / STAYS, index=False)
        embeddings = source.embeddings(writer.names)
        if embeddings is not None:
            np.save(folder / EMBEDDINGS, embeddings.astype(np.float32))
        progress("statistics", 0.0)
        variables = training_statistics(folder, stays, writer.names, source.units)
        progress("statistics", 1.0)
        info = DatasetInfo(
            name=source.name, source=source.kind, simulated=source.simulated, seed=seed,
            fingerprint=fingerprint(folder, stays, writer.names), stays=stays_per_split(stays),
            sets=writer.sets, events=writer.events, labels={label: known(stays[label]) for label in source.labels},
            variables=variables, embedding_dim=None if embeddings is None else embeddings.shape[1], read=source.read,
        )  # fmt: skip
        (folder / DATASET_JSON).write_bytes(orjson.dumps(info.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    return info


def _complete(source: Source, writer: StoreWriter, seed: int, valid: float, test: float) -> pd.DataFrame:
    """The table of stays with outcomes and splits, columns in a fixed order."""
    stays = writer.stays()
    if not len(stays):
        raise InputError(f"{source.name}: no stay with events was found; what was read: {source.read}")
    twice = stays.loc[stays["stay_id"].duplicated(), "stay_id"]
    if len(twice):
        raise InputError(f"{source.name}: stay {twice.iloc[0]} occurs twice; every stay needs its own id")
    stays = source.outcomes(stays)
    if "split" not in stays:
        shares = split_by_subject(stays["subject_id"], valid=valid, test=test, seed=seed)
        stays["split"] = stays["subject_id"].map(shares)
    if not (stays["split"] == "train").any():
        raise InputError(f"{source.name}: no training stays among {len(stays):,}; use more stays or smaller --valid and --test")
    first = ["stay_id", "subject_id", "split", "set_start", "set_count", "event_count", *source.labels]
    return stays[[*first, *(column for column in stays if column not in first)]]


def stays_per_split(stays: pd.DataFrame) -> dict[str, int]:
    """Stays of each split, also of empty ones."""
    return {split: int((stays["split"] == split).sum()) for split in SPLITS}


def known(label: pd.Series) -> dict[str, int]:
    """How much of a 0/1 label is known."""
    return {"known": int(label.notna().sum()), "missing": int(label.isna().sum()), "positive": int((label == 1).sum())}


def fingerprint(folder: Path, stays: pd.DataFrame, names: list[str]) -> str:
    """sha256 over events, vocabulary, splits, outcomes and embeddings: the same wherever and whenever they were prepared."""
    digest = hashlib.sha256()

    def add(name: str, content: bytes) -> None:
        digest.update(f"{name}:{len(content)}\n".encode())
        digest.update(content)

    add("vocabulary", orjson.dumps(names))
    for column in stays:
        values = stays[column]
        text = not pd.api.types.is_numeric_dtype(values)
        add(f"stays.{column}", orjson.dumps(values.tolist()) if text else values.to_numpy().tobytes())
    for name in (*(f"{array}.npy" for array in ARRAYS), EMBEDDINGS):
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                add(name, hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
