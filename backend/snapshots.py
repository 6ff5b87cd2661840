"""What one evaluation of the fixed probe set gives, and its parquet files in the run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backend.recorder import RunRecorder
from shared.layout import SCHEMA_VERSION, RunLayout

MOST_SNAPSHOTS = 200


@dataclass(frozen=True)
class ProbeResult:
    """One evaluation of the fixed probe set: totals for the log, and frames for the snapshots (see `shared.layout`)."""

    values: dict[str, Any]
    posterior: pd.DataFrame
    latents: pd.DataFrame
    reconstruction: pd.DataFrame
    presence: pd.DataFrame | None = None
    """None where the decoder does not say which variables it expects"""
    observed: pd.DataFrame | None = None
    """What had been measured at each latent, the same at every evaluation; None where that is not known"""


def write_snapshots(recorder: RunRecorder, step: int, result: ProbeResult) -> None:
    """Write the frames, each whole or not at all; a failing disk warns and training goes on."""
    layout = recorder.layout
    try:
        for frame, path in (
            (result.posterior, layout.posterior(step)),
            (result.latents, layout.latents(step)),
            (result.presence, layout.presence(step)),
            (result.reconstruction, layout.reconstruction(step)),
            (result.observed, layout.observed),
        ):
            if frame is None or (path == layout.observed and _holds(path, frame)):
                continue
            path.parent.mkdir(exist_ok=True)
            write_frame(frame, path)
        thin(layout)
    except OSError as error:
        recorder.warn(f"snapshot of step {step} not written: {error}. Training goes on.", "snapshots")


def _holds(path: Path, frame: pd.DataFrame) -> bool:
    """Whether that frame is there already."""
    try:
        attributes = (pq.read_schema(path).pandas_metadata or {}).get("attributes", {})
    except (OSError, pa.ArrowInvalid):
        return False
    return attributes.get("sample") == frame.attrs["sample"]


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Parquet with the schema version among its metadata; there whole or not at all. Raises OSError."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"schema_version": str(SCHEMA_VERSION).encode()}
    temporary = path.with_suffix(".tmp")
    try:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def thin(layout: RunLayout) -> None:
    """Keep at most `MOST_SNAPSHOTS` of each kind, so that disk use does not grow for ever.

    The first and the latest stay; of the others those go, in all kinds alike, whose neighbours are nearest to each other: what
    is left is spread evenly over the run.
    """
    steps = [step for step, _ in layout.snapshots("posterior")]
    while len(steps) > MOST_SNAPSHOTS:
        gone = min(range(1, len(steps) - 1), key=lambda i: steps[i + 1] - steps[i - 1])
        step = steps.pop(gone)
        for path in (layout.posterior(step), layout.latents(step), layout.reconstruction(step), layout.presence(step)):
            path.unlink(missing_ok=True)
