"""Small random stays in memory, for tests of the model alone: ragged sets, repeats, a constant variable, unknown labels."""

import numpy as np
import pandas as pd

from backend.batches import Batch, StayDataset
from backend.store import PreparedDataset
from shared.config import DataConfig
from shared.dataset import DatasetInfo, VariableInfo

VARIABLES = 7


def cohort(stays: int = 5, seed: int = 0, longest: int = 9, largest: int = 12) -> PreparedDataset:
    """A `PreparedDataset` that never touches a disk."""
    rng = np.random.default_rng(seed)
    set_count = rng.integers(1, longest, stays)
    size = rng.integers(1, largest, set_count.sum())
    events = int(size.sum())
    gaps = rng.integers(1, 200, set_count.sum())
    first = np.cumsum(set_count) - set_count
    minute = np.concatenate([np.cumsum(gaps[a : a + n]) for a, n in zip(first, set_count, strict=True)])
    label = np.where(rng.random(stays) < 0.2, np.nan, (rng.random(stays) < 0.5).astype(float))
    info = DatasetInfo(
        name="random", source="simulate", simulated=True, fingerprint="0" * 64, seed=seed,
        stays={"train": stays, "valid": 0, "test": 0}, sets=len(size), events=events,
        labels={"in_hospital_mortality": {}},
        variables=[
            VariableInfo(name=f"v{i}", count=9, mean=0.0, std=0.0 if i == 0 else 1.0, low=-5, high=5, constant=i == 0)
            for i in range(VARIABLES)
        ],
    )  # fmt: skip
    table = pd.DataFrame(
        {
            "stay_id": [str(i) for i in range(stays)],
            "subject_id": [str(i) for i in range(stays)],
            "split": "train",
            "set_start": first,
            "set_count": set_count,
            "in_hospital_mortality": label,
        }
    )
    return PreparedDataset(
        path=None,
        info=info,
        stays=table,
        event_variable=rng.integers(0, VARIABLES, events).astype(np.uint16),
        event_value=rng.normal(size=events).astype(np.float32),
        set_minute=minute.astype(np.float32),
        set_start=np.concatenate([[0], np.cumsum(size)]),
        embeddings=None,
    )


def batch_of(data: PreparedDataset, rows: list[int] | None = None, **options: object) -> Batch:
    """Some stays (all by default) as one batch."""
    config = DataConfig(**options)
    return StayDataset(data, "train", config)[list(range(len(data.stays))) if rows is None else rows]
