"""Writes reconstruction snapshots of a decoder that is known through and through, for tests of what reads them."""

from pathlib import Path

import numpy as np
import pandas as pd

from backend.snapshots import write_frame
from shared.layout import RunLayout

VARIABLES = {"HR": (88.0, 18.0, "bpm"), "Temp": (37.0, 1.0, "°C"), "pH": (7.4, 0.1, ""), "<b>Lactate": (2.0, 1.5, "mmol/L")}
"""Mean, standard deviation and unit."""
CONSTANT = "MechVent"


def events(
    patients: int = 12, sets: int = 20, *, left: float = 0.5, claimed: float | None = None, seed: int = 0, constant: bool = True
) -> pd.DataFrame:
    """Values whose reconstruction misses by a normal error of `left` standard deviations; the decoder says `claimed` (None: nothing)."""
    rng = np.random.default_rng(seed)
    rows = []
    for stay in range(patients):
        for hour in range(sets):
            for name, (mean, std, _) in VARIABLES.items():
                if rng.random() < 0.9 - 0.2 * list(VARIABLES).index(name):
                    value, miss = mean + std * rng.standard_normal(), left * std * rng.standard_normal()
                    rows.append(
                        (
                            f"p{stay}",
                            60.0 * hour,
                            name,
                            value,
                            value + miss,
                            np.nan if claimed is None else claimed * std,
                            miss,
                            miss / std,
                        )
                    )
            if constant and rng.random() < 0.2:
                rows.append((f"p{stay}", 60.0 * hour, CONSTANT, 1.0, *[np.nan] * 4))
    frame = pd.DataFrame(
        rows, columns=["stay_id", "minute", "variable", "observed", "reconstructed", "std", "error", "error_in_std"]
    )
    frame["variable"] = pd.Categorical(frame["variable"], categories=[*VARIABLES, CONSTANT, "never"])
    numbers = frame.columns[3:]
    frame[numbers] = frame[numbers].astype(np.float32)
    frame["minute"] = frame["minute"].astype(np.float32)
    frame.attrs["units"] = {name: unit for name, (_, _, unit) in VARIABLES.items() if unit}
    return frame


def presence(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Probabilities that lean towards what occurred in the sets of `frame`, for every variable of its vocabulary."""
    rng = np.random.default_rng(seed)
    names = list(frame["variable"].cat.categories)
    sets = frame[["stay_id", "minute"]].drop_duplicates(ignore_index=True)
    told = set(zip(frame["stay_id"], frame["minute"], frame["variable"].astype(str), strict=True))
    occurred = np.array([[(stay, minute, name) in told for name in names] for stay, minute in sets.itertuples(index=False)])
    probability = np.clip(0.7 * occurred + 0.15 + 0.1 * rng.standard_normal(occurred.shape), 0, 1).astype(np.float16)
    found = sets.assign(probability=list(probability), occurred=list(occurred))
    found.attrs["variables"] = names
    return found


def latents(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that the page reads: the first patient has no label, the others alternate."""
    stays = sorted(frame["stay_id"].unique())
    return pd.DataFrame({"stay_id": stays, "outcome": [np.nan, *(float(at % 2) for at in range(1, len(stays)))]})


def write(path: Path, frame: pd.DataFrame) -> Path:
    """One snapshot, as the trainer writes it: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frame(frame, path)
    return path


def write_step(layout: RunLayout, step: int, frame: pd.DataFrame, *, with_presence: bool = True) -> None:
    """All snapshots of one evaluation that the page reads; the events come last."""
    write(layout.latents(step), latents(frame))
    if with_presence:
        write(layout.presence(step), presence(frame))
    write(layout.reconstruction(step), frame)
