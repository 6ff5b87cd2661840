"""The data sets that a training may be started on: prepared folders in given places, and those of the runs there are."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dashboard.formats import count
from dashboard.widgets import Html, el, join
from shared.dataset import DATASET_JSON, DatasetInfo
from shared.errors import InputError
from shared.reader import read_record

MOST_FOLDERS = 500
"""A place with more folders than this is no place for data sets; it is not searched to its end."""


@dataclass(frozen=True)
class DataSet:
    """One folder to train on; without `info` it cannot be, for the reason `problem`, or is in the older layout."""

    path: Path
    info: DatasetInfo | None = None
    problem: str | None = None

    @property
    def title(self) -> str:
        """For a list to choose from."""
        if self.info is None:
            return f"{self.path.name} · {'cannot be read' if self.problem else 'older layout'} · {self.path}"
        return f"{self.info.name} · {count(sum(self.info.stays.values()))} stays · {self.path}"


def find(places: Iterable[Path], known: Iterable[str] = ()) -> list[DataSet]:
    """Data sets in `places` (each one itself, or a folder of them), then those at `known` paths that are still there."""
    found: dict[Path, DataSet] = {}
    for path in (*(path for place in places for path in _below(place)), *(Path(path) for path in known)):
        absolute = path.absolute()
        if absolute not in found and _is_one(absolute):
            found[absolute] = look(absolute)
    return list(found.values())


def _below(place: Path) -> Iterator[Path]:
    yield place
    try:
        children = sorted(child for child, _ in zip(place.iterdir(), range(MOST_FOLDERS), strict=False))
    except OSError:
        return
    yield from (child for child in children if not child.name.startswith("."))


def _is_one(path: Path) -> bool:
    try:
        return (path / DATASET_JSON).is_file() or (path / "patient_ehr").is_dir()
    except OSError:
        return False


def look(path: Path) -> DataSet:
    """The data set in a folder, or why there is none."""
    file = path / DATASET_JSON
    try:
        stamp = file.stat().st_mtime_ns
    except (OSError, ValueError):
        if _is_one(path):
            return DataSet(path)
        return DataSet(path, problem=f"{path}: not a prepared data set (no {DATASET_JSON} in it)")
    return _read(path, stamp)


@lru_cache(maxsize=256)
def _read(path: Path, stamp: int) -> DataSet:
    try:
        return DataSet(path, info=read_record(path / DATASET_JSON, DatasetInfo))
    except InputError as error:
        return DataSet(path, problem=str(error))


def summary(data: DataSet, label: str) -> Html:
    """What is in it, for the form."""
    if data.problem is not None:
        out = shlex.quote(str(data.path))
        return el(
            "p", data.problem, ". Make one with ", el("code", f"python -m backend prepare physionet2012 SRC {out}"), " or ",
            el("code", f"python -m backend prepare simulate {out}"), cls="sv-field-error", role="alert",
        )  # fmt: skip
    if data.info is None:
        text = "In the older patient_ehr layout: it is prepared once, when training starts."
        return el("p", text, cls="sv-dim sv-data")
    info = data.info
    facts = [f"{count(number)} {split}" for split, number in info.stays.items()]
    parts = [
        el("span", "simulated data", cls="sv-tag", title="From the built-in generator: no real patients.")
        if info.simulated
        else None,
        el("span", " · ".join([*facts, f"{len(info.variables)} variables", f"{count(info.events)} measurements"])),
        el("span", _outcome(info, label)),
    ]
    return el("p", join(part for part in parts if part is not None), cls="sv-about sv-dim sv-data")


def _outcome(info: DatasetInfo, label: str) -> str:
    counts = info.labels.get(label)
    if counts is None:
        return f"no outcome {label!r}; there are {', '.join(info.labels) or 'none'}"
    known, positive = counts.get("known", 0), counts.get("positive", 0)
    return f"{label}: {count(positive)} of {count(known)} positive"
