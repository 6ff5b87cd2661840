"""The checkpoints of one run: what lies in its folder, and whether each file is the one that its sidecar describes."""

import os
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import CheckpointSidecar
from shared.torch_file import Identity

MOST_SIDECAR_BYTES = 8 << 20
SUFFIX, LEFTOVER = ".ckpt", ".ckpt.tmp"

KINDS: dict[str, str] = {
    "last": "where training stood; replaced at each regular save",
    "earlier": "a former last.ckpt, without a collapse in sight; what a remedy goes back to",
    "best": "among the two best validation scores so far",
    "final": "the end of training",
    "interrupted": "saved because somebody or something stopped the training",
    "error": "saved because training failed; perhaps in the middle of a step",
    "collapse": "saved when the posterior collapsed",
    "other": "not named as this program names its checkpoints",
}
"""What each kind is, in words."""


class Fault(StrEnum):
    """What keeps a file from being checked."""

    NO_SIDECAR = "no sidecar"
    BAD_SIDECAR = "bad sidecar"
    UNREADABLE = "unreadable"
    GONE = "gone"


@dataclass(frozen=True)
class Checkpoint:
    """One name in the folder of checkpoints."""

    name: str
    kind: str
    path: Path
    """The file itself, in the same folder even where the name is a link."""
    identity: Identity | None
    """None when the file is gone and only its sidecar is left, or when it may not be read."""
    at: datetime | None
    """When it was saved; by the file's own time where there is no sidecar, None where there is neither."""
    sidecar: CheckpointSidecar | None
    fault: Fault | None
    problem: str
    """What the fault is, in words."""
    twins: tuple[str, ...] = ()
    """Other names of the same bytes on the disk."""

    @property
    def bytes(self) -> int | None:
        """Size of the file."""
        return self.identity[2] if self.identity else None


@dataclass(frozen=True)
class Leftover:
    """A file that a kill left half-written, or that is being written now."""

    name: str
    bytes: int
    at: datetime


@dataclass(frozen=True)
class Folder:
    """All that lies in a folder of checkpoints."""

    checkpoints: list[Checkpoint]
    """Newest first."""
    leftovers: list[Leftover]
    problem: str | None = None
    """Why the folder cannot be read."""

    def named(self, name: str | None) -> Checkpoint | None:
        """The checkpoint of that file name."""
        return next((found for found in self.checkpoints if found.name == name), None)


def list_folder(layout: RunLayout) -> Folder:
    """What lies directly in the run's folder of checkpoints. A link that leads out of it is named and not followed."""
    folder = layout.checkpoints
    try:
        if folder.resolve().parent != layout.root.resolve():
            return Folder([], [], f"{folder.name} is a link to somewhere outside the run; it is not followed")
        entries = {entry.name: entry for entry in os.scandir(folder)}
    except FileNotFoundError:
        return Folder([], [])
    except OSError as error:
        return Folder(
            [], [], f"{folder.name} cannot be read ({error.strerror}); give this user the right to, then reload the page"
        )
    names = {name for name in entries if name.endswith(SUFFIX)}
    names |= {f"{Path(name).stem}{SUFFIX}" for name in entries if name.endswith(".json") and _describes(folder / name)}
    found = [_checkpoint(folder, name) for name in sorted(names)]
    found = [_with_twins(one, found) for one in found]
    leftovers = [left for name in sorted(entries) if name.endswith(LEFTOVER) and (left := _leftover(folder / name))]
    return Folder(sorted(found, key=_newest_first), leftovers)


def file_names(layout: RunLayout) -> list[str]:
    """The files that can be loaded, in name order; what a link that leads out of the folder names is none of them."""
    return sorted(one.name for one in list_folder(layout).checkpoints if one.identity is not None)


def _newest_first(one: Checkpoint) -> tuple[float, int, str]:
    return -one.at.timestamp() if one.at else 0.0, -(one.sidecar.step if one.sidecar else 0), one.name


def _describes(path: Path) -> bool:
    """Whether a JSON file is a sidecar: results of an evaluation lie beside them."""
    return not path.name.endswith(".eval.json") and not path.name.startswith(".")


def _checkpoint(folder: Path, name: str) -> Checkpoint:
    path, identity, broken = _file(folder, name)
    sidecar, undescribed = _sidecar(folder / f"{name.removesuffix(SUFFIX)}.json")
    changed = datetime.fromtimestamp(identity[3] / 1e9, UTC) if identity else None
    kind = sidecar.kind if sidecar else name.removesuffix(SUFFIX).partition("_")[0]
    fault, problem = broken or undescribed or (None, "")
    return Checkpoint(
        name=name, kind=kind if kind in KINDS else "other", path=path, identity=identity, at=sidecar.at if sidecar else changed,
        sidecar=sidecar, fault=fault, problem=problem,
    )  # fmt: skip


Trouble = tuple[Fault, str] | None


def _file(folder: Path, name: str) -> tuple[Path, Identity | None, Trouble]:
    """The file behind a name, its identity, and why it may not be read."""
    path = folder / name
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            path = path.resolve(strict=True)
            if path.parent != folder.resolve():
                return folder / name, None, (Fault.UNREADABLE, "a link to somewhere outside this folder; it is not followed")
            status = path.lstat()
    except FileNotFoundError:
        words = "a link to nothing" if path.is_symlink() else "the file is gone; only its description is left"
        return folder / name, None, (Fault.GONE, words)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        return folder / name, None, (Fault.UNREADABLE, f"cannot be looked at ({error})")
    if not stat.S_ISREG(status.st_mode):
        return path, None, (Fault.UNREADABLE, "not a file")
    return path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), None


def _sidecar(path: Path) -> tuple[CheckpointSidecar | None, Trouble]:
    """The description beside a checkpoint, or what is wrong with it."""
    problem = ""
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_SIDECAR_BYTES:
            return read_record(path, CheckpointSidecar), None
        problem = f"{path.name} is no sidecar: a link, a folder, or larger than {MOST_SIDECAR_BYTES >> 20} MB"
    except FileNotFoundError:
        return None, (Fault.NO_SIDECAR, f"its sidecar {path.name} is missing")
    except OSError as error:
        problem = f"its sidecar {path.name} cannot be read ({error.strerror})"
    except InputError as error:
        problem = f"its sidecar {path.name} cannot be read: {str(error).removeprefix(f'{path}: ')}"
    return None, (Fault.BAD_SIDECAR, problem)


def _leftover(path: Path) -> Leftover | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return Leftover(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _with_twins(one: Checkpoint, found: list[Checkpoint]) -> Checkpoint:
    same = tuple(other.name for other in found if other.identity and other.identity == one.identity and other.name != one.name)
    return replace(one, twins=same) if same else one
