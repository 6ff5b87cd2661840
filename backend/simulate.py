"""Simulated intensive-care stays: no download, no patient, and a known truth to learn.

A hidden severity moves through each stay (a base level, a trend, and an autoregressive walk by the hour). It shifts vitals and
labs, makes measurements more frequent, and decides death. Stays are drawn in blocks of fixed size, each from its own random
stream, so that stay k of a seed is the same in a cohort of any size, and memory holds one block.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from backend.preparing import Progress
from backend.simulated_variables import DESCRIPTORS, UNITS, VARIABLES
from backend.store_writer import Chunk
from shared.errors import InputError

BLOCK = 256
HOURS = 48
MAX_SETS, MIN_SETS, MAX_SET_SIZE = 70, 30, 15
DEATH_LOGIT, DEATH_SLOPE, DEATH_AGE = -3.45, 2.9, 0.35


def _column(field: str, dtype: type = np.float64) -> np.ndarray:
    return np.array([getattr(variable, field) for variable in VARIABLES], dtype=dtype)


LAB, LOG, FREQUENCY = _column("lab", bool), _column("log", bool), _column("frequency")
STEP = 10.0 ** -_column("digits")
MIDDLE, EFFECT, BETWEEN, WITHIN = (_column(field) for field in ("middle", "effect", "between", "within"))
LOW, HIGH = _column("low"), _column("high")


class Simulation:
    """A source of `patients` simulated stays, one per patient, all fixed by `seed`.

    Raises:
        InputError: no patients, or a negative seed.
    """

    kind = "simulate"
    simulated = True

    def __init__(self, patients: int, seed: int) -> None:
        if patients < 1 or seed < 0:
            raise InputError(f"--patients {patients} --seed {seed}: at least one patient, and a seed of at least 0")
        self.patients = patients
        self.seed = seed
        self.labels = ["in_hospital_mortality"]
        self.units = UNITS
        self.name = f"simulated-{patients}"
        self.read: dict[str, Any] = {"simulated stays": patients}

    def chunks(self, progress: Progress) -> Iterator[Chunk]:
        """Blocks of stays; a block is drawn whole and then cut, so that its first stays never depend on `patients`."""
        for first in range(0, self.patients, BLOCK):
            rng = np.random.default_rng([self.seed, first // BLOCK])
            yield simulate_block(rng, first, min(BLOCK, self.patients - first))
            progress("simulating", min(first + BLOCK, self.patients) / self.patients)

    def outcomes(self, stays: pd.DataFrame) -> pd.DataFrame:
        """The chunks have them already."""
        return stays

    def embeddings(self, names: list[str]) -> None:
        """None."""


def simulate_block(rng: np.random.Generator, first: int, keep: int) -> Chunk:
    """`BLOCK` stays, numbered from `first`, of which the first `keep` are returned.

    Besides the label the stays have `death_probability`, the truth that the label was drawn from: no model can know more.
    """
    severity = severity_paths(rng)
    age = np.clip(np.round(rng.normal(64, 15, BLOCK)), 18, 95)
    minutes, count = measurement_times(rng, severity)
    stay = np.repeat(np.arange(BLOCK), count)
    first_of_stay = np.cumsum(count) - count
    at_set = severity[stay, np.minimum((minutes // 60).astype(int), HOURS)]
    habit, noise = draw_deviations(rng, len(stay))
    measured = draw_measured(rng, at_set, first_of_stay)
    statics = np.column_stack([age, rng.random(BLOCK) < 0.56, np.clip(np.round(rng.normal(81, 18, BLOCK), 1), 35, 220)])
    probability = death_probability(severity, age)
    died = rng.random(BLOCK) < probability

    sets = int(count[:keep].sum())
    present = np.zeros((sets, len(UNITS)), dtype=bool)
    present[:, : len(VARIABLES)] = measured[:sets]
    present[first_of_stay[:keep], len(VARIABLES) :] = True
    variable = np.flatnonzero(present) % len(UNITS)
    at = np.flatnonzero(measured[:sets])  # flat places are found and taken faster than pairs of indices
    row, drawn = np.divmod(at, len(VARIABLES))
    usual = habit.ravel()[stay[row] * len(VARIABLES) + drawn]
    value = np.empty(len(variable), dtype=np.float32)
    value[variable < len(VARIABLES)] = values_of(drawn, at_set[row], usual, noise.ravel()[at])
    value[variable >= len(VARIABLES)] = statics[:keep].ravel()
    ids = [f"sim-{number:07d}" for number in range(first, first + keep)]
    stays = pd.DataFrame({
        "stay_id": ids, "subject_id": ids,
        "in_hospital_mortality": died[:keep].astype(np.float32),
        "death_probability": probability[:keep].astype(np.float32),
    })  # fmt: skip
    return Chunk(
        stays=stays, set_count=count[:keep], set_size=present.sum(axis=1), set_minute=minutes[:sets],
        variable=variable, value=value, names=list(UNITS),
    )  # fmt: skip


def severity_paths(rng: np.random.Generator) -> np.ndarray:
    """Severity by the hour [BLOCK, HOURS + 1]."""
    base = rng.normal(0, 0.8, BLOCK)
    trend = rng.normal(0, 0.45, BLOCK)
    shocks = rng.normal(0, 0.11, (BLOCK, HOURS + 1))
    walk = np.zeros((BLOCK, HOURS + 1))
    for hour in range(1, HOURS + 1):
        walk[:, hour] = 0.96 * walk[:, hour - 1] + shocks[:, hour]
    return base[:, None] + trend[:, None] * (np.arange(HOURS + 1) / HOURS - 0.3) + walk


def death_probability(severity: np.ndarray, age: np.ndarray) -> np.ndarray:
    """From mean severity over the last day, and age in years [BLOCK]."""
    logit = DEATH_LOGIT + DEATH_SLOPE * severity[:, HOURS // 2 :].mean(axis=1) + DEATH_AGE * (age - 64) / 15
    return 1 / (1 + np.exp(-logit))


def measurement_times(rng: np.random.Generator, severity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minutes of all sets [S], strictly ascending whole minutes from 0 within a stay, and sets per stay [BLOCK].

    Times follow a density that grows with severity: the sorted uniforms below are put through its inverse.
    """
    count = np.clip(rng.poisson(50 + 6 * severity.mean(axis=1).clip(-3, 3)), MIN_SETS, MAX_SETS)
    uniform = np.sort(np.where(np.arange(MAX_SETS) < count[:, None], rng.random((BLOCK, MAX_SETS)), 2.0), axis=1)
    uniform[:, 0] = 0.0
    hourly = np.exp(0.4 * severity[:, :HOURS].clip(-4, 4))
    reached = np.concatenate([np.zeros((BLOCK, 1)), np.cumsum(hourly, axis=1)], axis=1)
    reached /= reached[:, -1:]
    stay = np.repeat(np.arange(BLOCK), count)
    u = uniform[np.arange(MAX_SETS) < count[:, None]]
    offset = np.arange(BLOCK)[:, None]
    # One search serves all stays: each stay's curve is lifted to its own unit interval.
    hour = np.clip(np.searchsorted((reached + offset).ravel(), u + stay, side="right") - 1 - stay * (HOURS + 1), 0, HOURS - 1)
    inside = (u - reached[stay, hour]) / (reached[stay, hour + 1] - reached[stay, hour])
    share = (hour + inside.clip(0, 1)) / HOURS
    rank = np.arange(len(stay)) - np.repeat(np.cumsum(count) - count, count)
    minutes = np.floor(share * (HOURS * 60 - count[stay])) + rank
    return minutes, count


def draw_deviations(rng: np.random.Generator, sets: int) -> tuple[np.ndarray, np.ndarray]:
    """What is usual for a stay [BLOCK, len(VARIABLES)], and what comes on top in a set [S, len(VARIABLES)]; of unit variance."""
    return rng.normal(0, 1, (BLOCK, len(VARIABLES))), rng.standard_normal((sets, len(VARIABLES)))


def values_of(variable: np.ndarray, severity: np.ndarray, habit: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The values measured [E], rounded as charted, within plausible limits; all arguments are per event."""
    shift = severity * EFFECT[variable] + habit * BETWEEN[variable] + noise * WITHIN[variable]
    log, middle, step = LOG[variable], MIDDLE[variable], STEP[variable]
    raw = middle + shift
    raw[log] = middle[log] * np.exp(shift[log])
    return np.clip(np.round(raw / step) * step, LOW[variable], HIGH[variable])


def draw_measured(rng: np.random.Generator, severity: np.ndarray, first_of_stay: np.ndarray) -> np.ndarray:
    """Which variables each set holds, True where measured [S, len(VARIABLES)]: 1 to `MAX_SET_SIZE` of them.

    Most sets are rounds of vital signs, some are laboratory panels, more of both kinds when a patient is sicker.
    """
    sets = len(severity)
    panel = rng.random(sets) < 0.20 + 0.05 * severity.clip(-2, 2)
    sparse = rng.random(sets) < 0.15
    draw = rng.random((sets, len(VARIABLES)))
    measured = draw < FREQUENCY * np.where(sparse, 0.25, 1.0)[:, None]
    measured[:, LAB] &= panel[:, None]
    empty = np.flatnonzero(~measured.any(axis=1))
    measured[empty, 0] = True
    room = np.full(sets, MAX_SET_SIZE)
    room[first_of_stay] -= len(DESCRIPTORS)
    over = np.flatnonzero(measured.sum(axis=1) > room)
    rank = np.where(measured[over], draw[over], 2.0).argsort(axis=1).argsort(axis=1)
    measured[over] &= rank < room[over, None]
    return measured
