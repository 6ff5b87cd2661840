"""Checkpoint files as torch.save writes them: a zip with one pickle and the raw storages of tensors, read without unpickling.

Values are read when they are asked for, piece by piece: memory does not grow with the file, and a file that another process
replaces meanwhile is read to its end as it was.
"""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import InputError
from shared.torch_objects import DamagedPickleError, Opaque, Storage, Tensor
from shared.torch_pickle import MOST_BYTES, Contents, read_pickle

MOST_READ = 16 << 20
"""Most bytes that the list of files in the zip may take: some 100,000 tensors."""
MOST_NODES = 500_000
MOST_DEPTH = 50
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
SAVE_AGAIN = "restore it from a copy, or delete it"

Identity = tuple[int, int, int, int]
"""Device, inode, size and time of change (ns): another file, or other bytes, is another identity."""


@dataclass(frozen=True)
class Named:
    """A tensor and where in the checkpoint it stands: ("state_dict", "encoder.weight")."""

    path: tuple[str, ...]
    tensor: Tensor


class Bounded:
    """A file that refuses to be read in pieces too large for memory: `zipfile` believes the sizes that the file claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """As of a file.

        Raises:
            ValueError: more than 16 MiB at once.
        """
        if size > MOST_READ:
            raise ValueError(f"a list of contents of {size:,} bytes")
        return self._file.read(MOST_READ if size < 0 else size)


@dataclass(frozen=True)
class Member:
    """One file of the zip: where its bytes begin, and how many there are."""

    at: int
    bytes: int


class TorchFile:
    """An open checkpoint: its contents as data, and the bytes of its tensors. Made by `open_torch_file`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.identity = identity_of(file)
        self.bytes = self.identity[2]
        self._infos = self._index()
        self._members: dict[str, Member] = {}
        self.big_endian = "byteorder" in self._infos and self._whole("byteorder") == b"big"
        self.contents: Contents = read_pickle(self._whole("data.pkl"))
        self.tensors: list[Named] = list(find_tensors(self.contents.value))
        for named in self.tensors:
            self._check(named)

    def read(self, storage: Storage, start: int, size: int) -> bytes:
        """`size` bytes of a storage from byte `start`; both have to lie in it.

        Raises:
            InputError: the file was cut off since it was opened.
        """
        self._file.seek(self._member(f"data/{storage.key}").at + start)
        data = self._file.read(size)
        if len(data) != size:
            raise InputError(f"{self.path}: was cut off while it was read; read it again once it is whole")
        return data

    def _index(self) -> dict[str, zipfile.ZipInfo]:
        """The files in the zip by their name below its one folder."""
        try:
            with zipfile.ZipFile(Bounded(self._file)) as archive:
                infos = archive.infolist()
        except UnicodeDecodeError as error:
            raise zipfile.BadZipFile from error
        root = next((name for name in (i.filename for i in infos) if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if root is None:
            raise ValueError("a zip, but without the data.pkl of torch.save")
        prefix = root.removesuffix("data.pkl")
        inside = [info for info in infos if info.filename.startswith(prefix)]
        return {info.filename.removeprefix(prefix): info for info in inside}

    def _member(self, name: str) -> Member:
        """Where a file of the zip lies.

        Raises:
            ValueError: it is not there, or not as torch.save writes it.
        """
        if name not in self._members:
            if name not in self._infos:
                raise ValueError(f"{name[:80]!r} is missing in it")
            self._members[name] = self._locate(self._infos[name])
        return self._members[name]

    def _locate(self, info: zipfile.ZipInfo) -> Member:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise ValueError(f"{info.filename[:80]!r} in it is compressed or encrypted, which torch.save never does")
        self._file.seek(info.header_offset)
        header = self._file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise ValueError(f"{info.filename[:80]!r} does not lie where its list of contents says")
        *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
        at = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
        if at + info.file_size > self.bytes:
            raise ValueError(f"{info.filename[:80]!r} reaches beyond its end")
        return Member(at, info.file_size)

    def _whole(self, name: str) -> bytes:
        member = self._member(name)
        if member.bytes > MOST_BYTES:
            raise ValueError(f"{name!r} in it has {member.bytes:,} bytes; at most {MOST_BYTES:,} are read")
        self._file.seek(member.at)
        return self._file.read(member.bytes)

    def _check(self, named: Named) -> None:
        member = self._member(f"data/{named.tensor.storage.key}")
        if member.bytes < named.tensor.end:
            where = ".".join(named.path)[:120]
            raise ValueError(f"tensor {where!r} needs {named.tensor.end:,} bytes of a storage of {member.bytes:,}")


def identity_of(file: BinaryIO) -> Identity:
    """What tells this file, with these bytes, from others."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_file(path: Path) -> BinaryIO:
    """Open a regular file and nothing else; a link is not followed, and a pipe is not waited for.

    Raises:
        InputError: missing, not a file, or not to be read by this user.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path}: not a file; name a checkpoint")
    return os.fdopen(handle, "rb")


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """A checkpoint, open as long as the context lasts.

    Raises:
        InputError: missing, not a file, or not readable as a checkpoint; names the file, the reason and what to do.
    """
    with open_file(path) as file:
        yield _opened(path, file)


def _opened(path: Path, file: BinaryIO) -> TorchFile:
    """The checkpoint in an open file, or one error for whatever may be wrong with it."""
    try:
        return TorchFile(path, file)
    except zipfile.BadZipFile as error:
        why = "it is not a zip file, or its end is missing: cut off, or written before torch 1.6"
        raise InputError(f"{path}: not a readable checkpoint: {why}; {SAVE_AGAIN}") from error
    except DamagedPickleError as error:
        raise InputError(f"{path}: not a readable checkpoint: {error}; {SAVE_AGAIN}") from error
    except (ValueError, OSError, NotImplementedError, struct.error, OverflowError, EOFError) as error:
        raise InputError(f"{path}: not a readable checkpoint: {error}; {SAVE_AGAIN}") from error


def find_tensors(value: Any) -> Iterator[Named]:
    """Every tensor in plain data, in its order, with the keys that lead to it; one that stands in two places comes twice.

    Raises:
        ValueError: values refer to each other so often that a list of them would not end.
    """
    stack: list[tuple[tuple[str, ...], Any, frozenset[int]]] = [((), value, frozenset())]
    visited = 0
    while stack:
        path, node, above = stack.pop()
        if isinstance(node, Tensor):
            yield Named(path, node)
            continue
        children = children_of(node)
        if not children or id(node) in above or len(above) >= MOST_DEPTH:
            continue
        visited += len(children)
        if visited > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values are nested in it")
        inner = above | {id(node)}
        stack.extend(((*path, label(key)), child, inner) for key, child in reversed(children))


def children_of(node: Any) -> list[tuple[Any, Any]]:
    """What lies directly in a container, with its keys or positions; nothing in a plain value."""
    if isinstance(node, dict):
        return list(node.items())
    if isinstance(node, list | tuple):
        return list(enumerate(node))
    if isinstance(node, Opaque):
        return [*node.items.items(), *enumerate(node.listed), *enumerate(node.args)]
    return []


def label(key: Any) -> str:
    """A key of a dictionary as text of a sensible length."""
    text = key.name if isinstance(key, Opaque) else str(key)
    return text if len(text) <= 200 else f"{text[:200]}…"
