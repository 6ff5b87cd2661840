"""Finds and reads the files of the PhysioNet 2012 challenge: archives or folders of records, and outcome tables."""

import csv
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from backend.physionet_records import NUMBER, Record
from shared.errors import InputError

OUTCOMES = {
    "SAPS-I": "saps_i",
    "SOFA": "sofa",
    "Length_of_stay": "length_of_stay",
    "Survival": "survival",
    "In-hospital_death": "in_hospital_mortality",
}
"""Column of `Outcomes-*.txt` -> column of `stays`. -1 there means not known, and becomes NaN."""
LABEL = "in_hospital_mortality"


def find_sets(folder: Path) -> list[Path]:
    """Archives and folders `set-*` in name order.

    Raises:
        InputError: no such folder, nothing of that name in it, or the same set twice (as an archive and unpacked).
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the one that holds set-*.tar.gz and Outcomes-*.txt")
    found = [path for path in sorted(folder.glob("set-*")) if path.is_dir() or path.name.endswith((".tar.gz", ".tgz", ".zip"))]
    if not found:
        raise InputError(
            f"{folder}: no set-*.tar.gz, set-*.zip or folder set-*/ in it; expected the challenge's files as published"
        )
    sets: dict[str, Path] = {}
    for path in found:
        other = sets.setdefault(path.name.partition(".")[0], path)
        if other is not path:
            raise InputError(f"{folder}: {other.name} and {path.name} are the same set; keep one of them")
    return found


def read_records(path: Path) -> Iterator[tuple[Record, float]]:
    """Every record of one archive or folder, with the share of it that has been read by then (0 to 1).

    Raises:
        InputError: an archive that is damaged or cut off.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_record(file.name))
        for number, file in enumerate(files, start=1):
            yield Record(str(file), file.stem, file.read_bytes()), number / len(files)
        return
    try:
        yield from _read_zip(path) if path.suffix == ".zip" else _read_tar(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: cannot be read as an archive ({error}); download it again") from error


def _is_record(name: str) -> bool:
    return name.endswith(".txt") and not name.startswith((".", "Outcomes"))


def _read_tar(path: Path) -> Iterator[tuple[Record, float]]:
    size = path.stat().st_size
    with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # a stream never goes back; the list would only grow
            file = archive.extractfile(member) if _is_record(PurePosixPath(member.name).name) else None
            if file is not None:
                yield Record(f"{path}:{member.name}", PurePosixPath(member.name).stem, file.read()), raw.tell() / size


def _read_zip(path: Path) -> Iterator[tuple[Record, float]]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if _is_record(PurePosixPath(name).name))
        for number, name in enumerate(names, start=1):
            yield Record(f"{path}:{name}", PurePosixPath(name).stem, archive.read(name)), number / len(names)


def read_outcomes(folder: Path) -> pd.DataFrame:
    """All `Outcomes-*.txt` as one table: index `RecordID` (strings), float32 columns named as in `OUTCOMES`, NaN: not known.

    Raises:
        InputError: no such file, a missing column, a record twice, or a value that is no number (death: not 0, 1 or -1).
    """
    files = sorted(folder.glob("Outcomes-*.txt"))
    if not files:
        raise InputError(f"{folder}: no Outcomes-*.txt in it; without outcomes there is nothing to predict")
    seen: dict[str, str] = {}
    rows: list[list[float]] = []
    for file in files:
        for where, cells in _table(file):
            record = cells["RecordID"].strip()
            if record in seen:
                raise InputError(f"{where}: record {record} was already at {seen[record]}; keep one of the two")
            seen[record] = where
            rows.append([_outcome(cells[column], column, where) for column in OUTCOMES])
    values = np.array(rows, dtype=np.float32).reshape(-1, len(OUTCOMES))
    return pd.DataFrame(values, index=pd.Index(list(seen), name="RecordID", dtype="str"), columns=list(OUTCOMES.values()))


def _table(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """("file, line n", cells by column) of each row."""
    with _opened(file) as lines:
        header = [cell.strip() for cell in next(lines, [])]
        for column in ("RecordID", *OUTCOMES):
            if column not in header:
                raise InputError(f"{file}, line 1: no column {column}; expected RecordID,{','.join(OUTCOMES)}")
        for number, cells in enumerate(lines, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{file}, line {number}"
            if len(cells) != len(header):
                raise InputError(f"{where}: expected {len(header)} fields, got {len(cells)}")
            yield where, dict(zip(header, cells, strict=True))


@contextmanager
def _opened(file: Path) -> Iterator[Iterator[list[str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield csv.reader(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not text in UTF-8 ({error})") from error


def _outcome(text: str, column: str, where: str) -> float:
    if not NUMBER.fullmatch(text.strip()):
        raise InputError(f"{where}: expected a number as {column}, got {text[:60]!r} (-1 stands for not known)")
    value = float(text)
    if OUTCOMES[column] == LABEL and value not in (0, 1, -1):
        raise InputError(f"{where}: expected 0, 1 or -1 as {column}, got {text!r}")
    return float("nan") if value == -1 else value
