"""Real trainings by several processes, for tests of them: started, fed, compared with one."""

from pathlib import Path
from typing import Any

import pytest

from backend.preparing import build
from backend.simulate import Simulation
from shared.layout import RunLayout
from tests.starting import Started, with_code
from tests.tiny_runs import TINY, evaluations, metrics, newest

SMALLEST = 0.05
"""Differences are relative to the value, or to this where it is smaller: figures near 0 are differences of numbers near 1."""


def words(data: Path, out: Path, devices: int, **options: object) -> list[str]:
    chosen = {
        **TINY,
        "dropout": 0,
        "loss_weighting": "dynamic",
        "batch_size": 6 // devices,
        "devices": devices,
        "data_dir": data,
        "output_dir": out,
        **options,
    }
    return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]


def process(words: list[str], before: str = "", *, new_session: bool = False) -> Started:
    """`python -m backend train`, after some code of the test's own in every process."""
    runs = Path(words[words.index("--output_dir") + 1])
    script = with_code(before, runs.with_suffix(".py"))
    return Started(["train", *words], runs.with_suffix(".txt"), script=script, new_session=new_session)


def train(words: list[str], before: str = "") -> RunLayout:
    child = process(words, before)
    assert child.wait() == 0, child.said()[-3000:]
    assert len([line for line in child.said().splitlines() if line.startswith("finished ")]) == 1, child.said()
    return newest(Path(words[words.index("--output_dir") + 1]))


def numbers(row: dict[str, Any], name: str = "") -> dict[str, float | None]:
    """Every number of a line, also inside tables and lists."""
    found: dict[str, float | None] = {}
    for key, value in row.items():
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inner, dict):
            found |= numbers({str(k): v for k, v in inner.items()}, f"{name}{key}.")
        elif value is None or isinstance(value, int | float):
            found[name + key] = value
    return found


def assert_as_one(run: RunLayout, one: RunLayout, least: float = 1e-5) -> None:
    for log in (metrics, lambda layout: evaluations(layout, "validation"), lambda layout: evaluations(layout, "probe")):
        ours, theirs = log(run), log(one)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for row, other in zip(ours, theirs, strict=True):
            mine, its = numbers(row), numbers(other)
            assert mine.keys() == its.keys()
            for name, value in its.items():
                if value is None or mine[name] is None:
                    assert mine[name] is value, name
                    continue
                apart = abs(mine[name] - value) / max(abs(value), SMALLEST)
                assert apart < (least if ".per_dim" not in name and "per_dim." not in name else 1e-3), (
                    row["step"],
                    name,
                    mine[name],
                    value,
                )


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 stays to train on: the last batch of an epoch holds one, and the second of two processes has none of its own.

    70 to validate with are three batches, and the second process has but one of them.
    """
    folder = tmp_path_factory.mktemp("data") / "stays"
    build(Simulation(120, 0), folder, seed=0, valid=70 / 120, test=7 / 120)
    return folder


@pytest.fixture(scope="module")
def one(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return train(words(stays, tmp_path_factory.mktemp("one") / "runs", 1, remedy="beta_cut"))
