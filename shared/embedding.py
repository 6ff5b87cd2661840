"""UMAP layouts of a run's latents as they lie in its `analysis` folder: frames over training, aligned with each other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import InputError
from shared.layout import SCHEMA_VERSION

NEIGHBOURS = 15
MIN_DIST = 0.1
SEED = 0
LEAST_POINTS = 2 * NEIGHBOURS
"""Below that nearly every point is a neighbour of every other, and a layout says nothing."""
OF_CHECKPOINT = -1
"""In place of the step in a file of one checkpoint."""
PARAMETERS: dict[str, Any] = {"method": 1, "neighbours": NEIGHBOURS, "min_dist": MIN_DIST, "seed": SEED}
"""What a layout depends on besides its input; `method` is counted up when the procedure changes."""
KEY = b"embedding"


@dataclass(frozen=True)
class Frame:
    """The layout of one snapshot."""

    input: str
    """`shared.latents.fingerprint` of the snapshot"""
    rows: np.ndarray
    """[n] the sets, rows of the data set"""
    xy: np.ndarray
    """[n, 2] float32"""
    kept: float
    """Share of the nearest neighbours in latent space that are nearest neighbours in the layout too"""
    started_from: int | None = None
    """Step of the frame whose layout this one started from and was turned onto; None for the first"""


@dataclass(frozen=True)
class Embedding:
    """All frames of one file, by step."""

    frames: Mapping[int, Frame]
    library: str
    """Name and version of the library that made them"""
    parameters: Mapping[str, Any]

    def valid(self, step: int, input: str) -> Frame | None:
        """The frame of a snapshot, if it was made from this very input by this procedure."""
        frame = self.frames.get(step)
        return frame if frame is not None and frame.input == input and self.parameters == PARAMETERS else None


def write_embedding(path: Path, frames: Mapping[int, Frame], library: str) -> None:
    """Write all frames; the file appears whole or not at all. Raises OSError."""
    about = {
        "library": library,
        "parameters": PARAMETERS,
        "frames": {str(step): {"input": f.input, "kept": f.kept, "from": f.started_from} for step, f in frames.items()},
    }
    table = pa.table(
        {
            "step": np.concatenate([np.full(len(frame.rows), step) for step, frame in frames.items()]),
            "set_row": np.concatenate([frame.rows for frame in frames.values()]),
            "x": np.concatenate([frame.xy[:, 0] for frame in frames.values()]).astype(np.float32),
            "y": np.concatenate([frame.xy[:, 1] for frame in frames.values()]).astype(np.float32),
        }
    )
    table = table.replace_schema_metadata({b"schema_version": str(SCHEMA_VERSION).encode(), KEY: orjson.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_embedding(path: Path) -> Embedding | None:
    """All frames, or None where there is no such file.

    Raises:
        InputError: the file is broken or of an unknown version.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it to have it made again") from error
    metadata = table.schema.metadata or {}
    version = metadata.get(b"schema_version", b"none").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        raise InputError(f"{path}: schema_version is {version}; this release reads {SCHEMA_VERSION}")
    try:
        about = orjson.loads(metadata[KEY])
        steps, rows = table["step"].to_numpy(), table["set_row"].to_numpy()
        xy = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])
        frames = {
            int(step): Frame(facts["input"], rows[steps == int(step)], xy[steps == int(step)], facts["kept"], facts["from"])
            for step, facts in about["frames"].items()
        }
        return Embedding(frames, about["library"], about["parameters"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no file of layouts ({error!r}); delete it to have it made again") from error
