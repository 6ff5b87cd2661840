"""Runs with latents of known shape, for tests of what looks at them."""

from pathlib import Path

import numpy as np
import pandas as pd

from backend.snapshots import write_frame
from shared.layout import RunLayout
from tests.run_factory import make_run

GROUPS = 4
MINUTES = 90


def make_latents(
    layout: RunLayout, steps: tuple[int, ...] = (100, 200, 300), *, stays: int = 60, sets: int = 5, dims: int = 6, width: int = 0,
    spread: float = 3.0,
) -> RunLayout:  # fmt: skip
    """Snapshots of `stays` patients in four groups that part as training goes on; with states of `width` for every second one."""
    rng = np.random.default_rng(0)
    stay = np.repeat(np.arange(stays), sets)
    centre, noise = rng.normal(size=(GROUPS, dims)), rng.normal(size=(stays * sets, dims))
    for number, step in enumerate(steps):
        mu = spread * number / max(len(steps) - 1, 1) * centre[stay % GROUPS] + noise + 0.1 * rng.normal(size=noise.shape)
        write_snapshot(layout, step, stay, mu, rng, width)
    names = ("HR", "Gender")
    values = pd.concat(
        pd.DataFrame({"set_row": np.arange(len(stay)), "variable": name, "value": value.astype(np.float32), "minute": np.float32(0)})
        for name, value in zip(names, (60 + stay + rng.normal(size=len(stay)), stay % 2), strict=True)
    )  # fmt: skip
    values = values[~((values["variable"] == "HR") & (values["set_row"] < sets))]
    values["variable"] = values["variable"].astype("category")
    values.attrs = {"units": {"HR": "bpm", "Gender": "1: male, 0: female"}, "sample": "s"}
    write_frame(values, layout.observed)
    return layout


def write_snapshot(
    layout: RunLayout, step: int, stay: np.ndarray, mu: np.ndarray, rng: np.random.Generator, width: int
) -> None:
    """One step's latents, posterior and reconstruction."""
    count, dims = mu.shape
    minute = np.tile(np.arange(count // len(np.unique(stay)), dtype=np.float32) * MINUTES, len(np.unique(stay)))
    outcome = np.where(stay == 1, np.nan, stay % GROUPS == 0).astype(np.float32)
    frame = pd.DataFrame(
        {"stay_id": [f"s{one}" for one in stay], "set_row": np.arange(count), "minute": minute, "outcome": outcome,
         "mu": list(mu.astype(np.float16)), "logvar": list(np.zeros_like(mu, np.float16)), "sampled": np.ones(count, bool)}
    )  # fmt: skip
    if width:
        states = rng.normal(size=(count, width)).astype(np.float16)
        frame["state"] = pd.Series([state if one % 2 else None for one, state in zip(stay, states, strict=True)], dtype=object)
    variance = mu.var(axis=0)
    variance[-1] = 0.001
    posterior = pd.DataFrame(
        {"level": np.zeros(dims, int), "dim": np.arange(dims), "kl": variance / 2, "kl_high": variance, "mi_gauss": variance / 2,
         "prior_gap": 0.0, "mean_mu": 0.0, "var_mu": variance, "mean_variance": 0.5, "active": variance > 0.01,
         "kind": ["active"] * (dims - 2) + ["mixed", "passive"]}
    )  # fmt: skip
    decoded = stay % 2 == 1
    events = pd.DataFrame(
        {"stay_id": frame["stay_id"][decoded], "minute": minute[decoded], "variable": pd.Categorical(["HR"] * decoded.sum()),
         "observed": 80.0, "reconstructed": 80.0, "std": 1.0, "error": 0.0, "error_in_std": 2.0}
    )  # fmt: skip
    for table, path in (
        (frame, layout.latents(step)),
        (posterior, layout.posterior(step)),
        (events, layout.reconstruction(step)),
    ):
        path.parent.mkdir(exist_ok=True)
        write_frame(table, path)


def latent_run(runs: Path, name: str, **options: object) -> RunLayout:
    """A finished run with latents."""
    return make_latents(make_run(runs, name, steps=300), **options)  # type: ignore[arg-type]
