"""The prepared data set folder: its files and its readable `dataset.json`."""

from pathlib import Path
from typing import Any

from pydantic import Field

from shared.schema import DatasetSummary, Record

DATASET_JSON = "dataset.json"
SPLITS = ("train", "valid", "test")


class VariableInfo(Record):
    """One row of the vocabulary. Statistics come from the training split alone, after clipping to [low, high]."""

    name: str
    unit: str = ""
    count: int = Field(description="events in the training split")
    mean: float | None = Field(default=None, description="None: no event in the training split")
    std: float | None = None
    low: float | None = Field(default=None, description="0.1 % quantile: smaller values are clipped to it when standardised")
    high: float | None = Field(default=None, description="99.9 % quantile")
    constant: bool = Field(default=False, description="std 0: presence is modelled, the value is not")


class DatasetInfo(Record):
    """`dataset.json`, written last: a folder without it is not a data set."""

    name: str
    source: str = Field(description="physionet2012, patient_ehr or simulate")
    simulated: bool
    fingerprint: str = Field(description="sha256 over events, splits and labels")
    seed: int
    stays: dict[str, int]
    sets: int
    events: int
    labels: dict[str, dict[str, int]] = Field(description="label -> {known, missing, positive} over all splits")
    variables: list[VariableInfo]
    embedding_dim: int | None = Field(default=None, description="size of the embeddings from cached.csv, if there are any")
    read: dict[str, Any] = Field(default_factory=dict, description="what was read, dropped and why, in counts")

    def summary(self, path: Path) -> DatasetSummary:
        """The part that a run keeps."""
        return DatasetSummary(
            path=str(path), name=self.name, source=self.source, fingerprint=self.fingerprint,
            simulated=self.simulated, stays=self.stays, variables=len(self.variables),
        )  # fmt: skip
