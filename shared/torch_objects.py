"""What torch writes into a checkpoint besides plain values, as data: tensors by their shape and place, classes by their name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex128": 16, "complex64": 8, "complex32": 4, "int64": 8,
    "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "float8_e4m3fn": 1,
    "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128", "ComplexFloatStorage": "complex64", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
}  # fmt: skip


SCALARS = (str, bytes, int, float, complex, type(None))
MOST_DIMENSIONS = 64


@dataclass(frozen=True)
class Storage:
    """A piece of raw memory in the file, named by `key`, of `elements` values."""

    key: str
    dtype: str
    elements: int

    @property
    def bytes(self) -> int:
        """Its length."""
        return self.elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; `stride` and `offset` count values, not bytes."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: Storage

    @property
    def values(self) -> int:
        """How many values it shows."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes those take."""
        return self.values * ITEM_BYTES[self.dtype]

    @property
    def end(self) -> int:
        """The byte of the storage behind its last value."""
        if not self.values:
            return 0
        last = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        return (last + 1) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle refers to: its name, and nothing else of it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Opaque:
    """An object that only unpickling could rebuild: what it is called, and the plain data the pickle gives it."""

    name: str
    args: tuple[Any, ...] = ()
    items: dict[Any, Any] = field(default_factory=dict)
    listed: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}, not read"


class DamagedPickleError(ValueError):
    """Not a pickle that could be followed to its end; says why."""


def plain_key(value: Any) -> Any:
    """As a key of a dictionary; what is not plain is replaced: hashes of nested tuples or of large integers may be made to collide."""
    if isinstance(value, int) and not -(1 << 60) < value < 1 << 60:
        return Opaque(f"{value:,}")
    if isinstance(value, (*SCALARS, Opaque, Name)):
        return value
    if isinstance(value, tuple) and len(value) <= 8 and all(isinstance(part, SCALARS) for part in value):
        return Opaque("(" + ", ".join(str(part)[:40] for part in value) + ")")
    return Opaque(f"a {type(value).__name__} as a key")


def storage_of(identity: Any) -> Storage | Opaque:
    """A persistent identity as torch writes it: ("storage", its class, key, device, number of values)."""
    if isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage":
        _, kind, key, _, elements = identity
        dtype = STORAGES.get(kind.name) if isinstance(kind, Name) else None
        if dtype and isinstance(key, str) and _counts(elements):
            return Storage(key, dtype, elements)
        return Opaque(str(kind)) if isinstance(kind, Name) else Opaque("a storage of an unknown kind")
    return Opaque("a stored object of an unknown kind")


def _counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _tensor(storage: Any = None, offset: Any = None, size: Any = None, stride: Any = None, *rest: Any) -> Tensor | Opaque:
    """`torch._utils._rebuild_tensor` and its second version."""
    if not isinstance(storage, Storage):
        return Opaque(f"a tensor in {storage.name}" if isinstance(storage, Opaque) else "a tensor without a storage")
    return _view(storage, storage.dtype, offset, size, stride)


def _tensor_of_kind(
    storage: Any = None, offset: Any = None, size: Any = None, stride: Any = None, _grad: Any = None, _hooks: Any = None,
    dtype: Any = None, *rest: Any,
) -> Tensor | Opaque:  # fmt: skip
    """`torch._utils._rebuild_tensor_v3`: raw bytes and the kind of number beside them."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Name) or dtype.name not in ITEM_BYTES:
        return Opaque(f"a tensor of {dtype if isinstance(dtype, Name) else 'an unknown kind'}")
    return _view(storage, dtype.name, offset, size, stride)


def _view(storage: Storage, dtype: str, offset: Any, size: Any, stride: Any) -> Tensor:
    plain = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MOST_DIMENSIONS
    if not plain or not _counts(offset, *size, *stride):
        raise DamagedPickleError("a tensor has a shape that is not one")
    tensor = Tensor(dtype, size, stride, offset, storage)
    if tensor.end > storage.bytes:
        raise DamagedPickleError(f"a tensor of shape {list(size)[:8]} reaches beyond its storage {storage.key[:40]!r}")
    return tensor


def _parameter(tensor: Any = None, *rest: Any) -> Any:
    return tensor if isinstance(tensor, Tensor | Opaque) else Opaque("a parameter without a tensor")


def _ordered(pairs: Any = (), *rest: Any) -> dict[Any, Any] | Opaque:
    if isinstance(pairs, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        return {plain_key(key): value for key, value in pairs}
    return Opaque("collections.OrderedDict")


def _members(values: Any = (), *rest: Any) -> list[Any] | Opaque:
    return list(values) if isinstance(values, list | tuple) else Opaque("a set")


def _size(values: Any = (), *rest: Any) -> tuple[Any, ...] | Opaque:
    return values if isinstance(values, tuple) else Opaque("torch.Size")


def _encoded(text: Any = "", encoding: Any = "latin1", *rest: Any) -> bytes | Opaque:
    """Bytes, as pickles of protocol 2 write them."""
    plain = isinstance(text, str) and encoding in ("latin1", "latin-1") and all(ord(letter) < 256 for letter in text)
    return text.encode("latin1") if plain else Opaque("_codecs.encode")


def _complex(real: Any = None, imaginary: Any = None, *rest: Any) -> complex | Opaque:
    numbers = isinstance(real, float) and isinstance(imaginary, float)
    return complex(real, imaginary) if numbers else Opaque("builtins.complex")


def _device(name: Any = "?", index: Any = None, *rest: Any) -> str:
    name = name[:40] if isinstance(name, str) else "?"
    return f"{name}:{index}" if isinstance(index, int) else name


KNOWN: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor, "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_kind, "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter, "collections.OrderedDict": _ordered, "torch.Size": _size,
    "builtins.set": _members, "__builtin__.set": _members, "builtins.frozenset": _members, "__builtin__.frozenset": _members,
    "_codecs.encode": _encoded, "builtins.complex": _complex, "__builtin__.complex": _complex, "torch.device": _device,
}  # fmt: skip
