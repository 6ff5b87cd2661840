"""Small inputs on disk, in the layouts that `prepare` reads, and a few ways to look at what came out."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from backend.store import PreparedDataset

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
OUTCOMES_HEADER = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def record(number: int, *lines: str, age: float = 60) -> str:
    """A PhysioNet record; without `lines` it has two heart rates and a temperature."""
    lines = lines or ("00:07,HR,73", "00:07,Temp,36.5", "01:30,HR,80")
    descriptors = (f"00:00,RecordID,{number}", f"00:00,Age,{age:g}", "00:00,Gender,1", "00:00,Height,-1")
    return "\n".join(("Time,Parameter,Value", *descriptors, *lines, ""))


def outcome(number: int, death: float = 0) -> str:
    return f"{number},6,1,5,-1,{death:g}\n"


def write_set(folder: Path, records: dict[int, str], kind: str = "tar.gz", name: str = "set-a") -> None:
    """One set of the challenge, as an archive or a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {f"{name}/{number}.txt": text.encode() for number, text in records.items()}
    if kind == "folder":
        for path, content in contents.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
    elif kind == "zip":
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path, content in contents.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
            for path, content in contents.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_challenge(folder: Path, numbers: range = range(1, 21), kind: str = "tar.gz") -> Path:
    """A set with an outcome for every record; every fourth patient dies."""
    write_set(folder, {number: record(number) for number in numbers}, kind)
    (folder / "Outcomes-a.txt").write_text(OUTCOMES_HEADER + "".join(outcome(number, number % 4 == 0) for number in numbers))
    return folder


def events_frame(minutes: list[float], names: list[str], values: list[float], **columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"variable": names, "value": np.array(values, dtype="float32"), "minute": minutes, **columns})


def write_ehr(folder: Path, stays: dict[str, dict[str, pd.DataFrame]], labels: str, stats: str | None = None) -> Path:
    """The older layout: split -> stay -> events."""
    for split in ("train", "valid", "test"):
        (folder / "patient_ehr" / split).mkdir(parents=True)
        for stay, frame in stays.get(split, {}).items():
            frame.to_parquet(folder / "patient_ehr" / split / f"{stay}.parquet", index=False)
    (folder / "oc.csv").write_text(labels)
    if stats is not None:
        (folder / "stats.csv").write_text(stats)
    return folder


def sets_of(data: PreparedDataset, stay: str) -> list[tuple[float, list[tuple[str, float]]]]:
    """[(minute, [(variable, value), ...]), ...] of one stay."""
    row = data.stays.set_index("stay_id").loc[stay]
    found = []
    for index in range(row.set_start, row.set_start + row.set_count):
        events = range(data.set_start[index], data.set_start[index + 1])
        pairs = [(data.info.variables[data.event_variable[e]].name, float(data.event_value[e])) for e in events]
        found.append((float(data.set_minute[index]), pairs))
    return found
