"""What can be read of TensorBoard event files: scalars of either format, hyperparameters; also while they are written."""

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

from backend.tensorboard_records import RecordFile
from backend.tensorboard_scalars import Scalars
from shared.errors import InputError

NAME = "tfevents"
LATEST = 253_402_300_799.0
"""The last second of the year 9999, with which Python's calendar ends."""
UNREADABLE = (DecodeError, TypeError, ValueError, OverflowError, KeyError)
"""What protobuf and `make_ndarray` raise of content that is not what it says."""
LARGE = 30_000_000
"""Bytes that take several seconds to read."""


@dataclass
class ScalarLog:
    """One run: a folder that holds event files. `scalars` has the value of each step, by tag."""

    path: Path
    scalars: dict[str, Scalars] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What could not be read."""
    hparams: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters, as TensorBoard's plugin for them keeps them."""

    @property
    def last_step(self) -> int:
        """0 where there is nothing."""
        return max((values.last_step for values in self.scalars.values()), default=0)


def is_event_file(path: Path) -> bool:
    """By its name."""
    return NAME in path.name and path.is_file()


def log_folders(path: Path) -> list[Path]:
    """The folders at or below `path` that hold event files, or `path` itself where it is such a file; in name order."""
    if path.is_file():
        return [path] if NAME in path.name else []
    return sorted({file.parent for file in path.rglob(f"*{NAME}*") if file.is_file()})


def read_log(path: Path) -> ScalarLog:
    """All scalars of one folder, or of one event file. What comes after a damaged record of a file is lost, and noted.

    A later file that goes back to an earlier step is a training that was resumed: it takes the place of what came after.

    Raises:
        InputError: a file cannot be opened, or none holds anything that can be read.
    """
    reader = LogReader(path)
    size = reader.size()
    if size > LARGE:
        print(f"reading {path}, {size / 1e6:,.0f} MB ...", file=sys.stderr, flush=True)
    reader.read()
    reader.check()
    return reader.log


def by_number(file: Path) -> list[tuple[int, str]]:
    """Sort key of event files: numbers in their names by value, for one program counts its files from 0 to 10 and on."""
    return [(int(part or 0), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


class LogReader:
    """Reads the event files of one folder (and of folders `beside` it), as far as they go now; `read` again for what came since."""

    def __init__(self, path: Path, beside: tuple[Path, ...] = ()) -> None:
        self.log = ScalarLog(path)
        self._folders = (path, *beside)
        self._files: dict[Path, RecordFile] = {}
        self._wrong: Counter[str] = Counter()
        """What is wrong with single records, in words, and with how many."""

    def files(self) -> list[Path]:
        """The event files there are now, in the order of their names."""
        found = []
        for folder in self._folders:
            events = [folder] if folder.is_file() else [file for file in folder.glob(f"*{NAME}*") if file.is_file()]
            found += sorted(events, key=by_number)
        return found

    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files())

    def read_so_far(self) -> dict[str, int]:
        """The files, below the folder of the log where they are in it, with the bytes of each that were read."""
        top = self.log.path if self.log.path.is_dir() else self.log.path.parent
        return {os.path.relpath(path, top): file.offset for path, file in self._files.items()}

    def read(self, told: Callable[[int], None] = lambda count: None) -> int:
        """Take in what is new; how many bytes that was. `told` hears of the bytes as they are read.

        Raises:
            InputError: a file cannot be read, or there were some and all are gone.
        """
        total, files = 0, self.files()
        if self._files and not files:
            raise InputError(f"{self.log.path}: its event files are gone")
        for path in files:
            fresh = path not in self._files
            file = self._files.setdefault(path, RecordFile(path))
            if fresh:
                for scalars in self.log.scalars.values():
                    scalars.next_file()
            before = file.offset
            try:
                for records in file.read():
                    self._take(records)
                    told(file.offset - before)
                    total, before = total + file.offset - before, file.offset
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from error
        return total

    def check(self) -> None:
        """Note what is damaged.

        Raises:
            InputError: there are files, and nothing can be read of them.
        """
        self.log.notes = [f"{what}: {count:,}." for what, count in self._wrong.items()]
        for path, file in self._files.items():
            try:
                size = path.stat().st_size
            except OSError as error:
                self.log.notes.append(
                    f"{path.name} cannot be read any more ({error.strerror}): it counts as far as it was read."
                )
                continue
            if file.offset < size:
                self.log.notes.append(
                    f"{path.name} is damaged or cut off after {file.offset:,} of {size:,} bytes: what follows is lost."
                )
        if self._files and not any(file.offset for file in self._files.values()):
            said = " ".join(self.log.notes)
            raise InputError(f"{self.log.path}: no event can be read from {len(self._files)} file(s); {said}".rstrip("; "))

    def _take(self, records: list[bytes]) -> None:
        scalars = self.log.scalars
        for record in records:
            try:
                event = Event.FromString(record)
            except DecodeError:
                continue  # too long for its checksum to be looked at, and no scalar
            for value in event.summary.value:
                try:
                    number = _number_of(value)
                    if value.tag == SESSION_START_INFO_TAG:
                        self.log.hparams.update(_hparams_of(value))
                except UNREADABLE:
                    self._wrong[f"Values of {value.tag!r} that cannot be read are left out"] += 1
                    continue
                if number is None:
                    continue
                if value.tag not in scalars:
                    scalars[value.tag] = Scalars()
                scalars[value.tag].add(event.step, self._wall_of(event), number)

    def _wall_of(self, event: Event) -> float:
        """When it was logged, 0 where that is no time."""
        if 0 <= event.wall_time <= LATEST:
            return event.wall_time
        self._wrong["Events with a wall time that is no time count as of 1970"] += 1
        return 0.0


def _number_of(value: Summary.Value) -> float | None:
    """Of either format: a simple value (TensorFlow 1, PyTorch), or a tensor of one number (TensorFlow 2)."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if not value.HasField("tensor") or math.prod(dim.size for dim in value.tensor.tensor_shape.dim) != 1:
        return None
    array = tensor_util.make_ndarray(value.tensor)
    return float(array.item()) if array.dtype.kind in "fiu" else None


def _hparams_of(value: Summary.Value) -> dict[str, Any]:
    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    found = content.session_start_info.hparams.items()
    return {name: _plain(hparam) for name, hparam in found if hparam.WhichOneof("kind") is not None}


def _plain(value: Value) -> Any:
    """As Python has it: lists and structs may hold further ones."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_plain(part) for part in value.list_value.values]
    if kind == "struct_value":
        return {name: _plain(part) for name, part in value.struct_value.fields.items()}
    if kind is None or kind == "null_value":
        return None
    plain = getattr(value, kind)
    return int(plain) if isinstance(plain, float) and plain.is_integer() and abs(plain) < 1e15 else plain
