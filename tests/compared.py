"""Runs to compare, with settings of the test's choosing, and what the Compare page makes of them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from dashboard.compare.choice import Loaded, load
from dashboard.runs.colours import Colours
from dashboard.runs.loading import Store
from shared.layout import RunLayout
from shared.writer import encode_line
from tests.run_factory import make_run


def compared_run(
    runs: Path, name: str, options: dict[str, Any] | None = None, rows: list[dict[str, Any]] | None = None, **how: Any
) -> RunLayout:
    """A run with these options (`loss.beta_max`) and, where given, this step log (each row with its `step`)."""
    layout = make_run(runs, name, **how)
    info = orjson.loads(layout.run_json.read_bytes())
    info["config"]["output"]["run_name"] = name
    for option, value in (options or {}).items():
        group, _, key = option.partition(".")
        info["config"][group][key] = value
    layout.run_json.write_bytes(orjson.dumps(info))
    if rows is not None:
        layout.metrics.write_bytes(
            b"".join(encode_line(row["step"], {key: row[key] for key in row if key != "step"}) for row in rows)
        )
    return layout


def line_rows(slope: float, steps: int = 100, first: int = 1, **more: float) -> list[dict[str, Any]]:
    """A step log in which the loss is `slope` times the step, an epoch has 50 steps, and a step takes half a second."""
    return [
        {"step": step, "loss": slope * step, "epoch": step / 50, "step_s": 0.5, **more} for step in range(first, first + steps)
    ]


def sweep(runs: Path) -> None:
    """Two settings with three seeds each; the seeds of one differ by 0, 1 and 2 in slope."""
    for beta in (0.1, 2.0):
        for seed in range(3):
            rows = line_rows(10 * beta + seed)
            name = f"b{beta}-s{seed}"
            compared_run(
                runs, name, {"loss.beta_max": beta, "trainer.seed": seed}, rows, steps=100, age=timedelta(hours=seed + 1)
            )


def loaded(runs: Path, *names: str) -> Loaded:
    """These runs as the page loads them; all where none is named."""
    wanted = names or tuple(sorted(path.name for path in runs.iterdir() if not path.name.startswith(".")))
    return load(wanted, Store(runs, lambda _name: 1), Colours(runs))
