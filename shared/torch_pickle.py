"""What a pickle says, read as data: nothing in it is imported, called or built.

`pickletools.genops` takes the bytes apart into opcodes, and these are followed on a stack as an unpickler would, except that
a class or function is only ever its name. What torch writes of tensors is understood; every other object is an `Opaque`.
"""

import pickletools
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any

from shared.torch_objects import KNOWN, DamagedPickleError, Name, Opaque, plain_key, storage_of

MOST_BYTES = 32 << 20
"""Longest pickle that is read; 1,000 tensors with their optimizer take about 0.4 MB."""
MOST_OPERATIONS = 2_000_000
"""Most opcodes, and most values that opcodes copy; a tensor with its optimizer takes about 100."""
MOST_BITS = 256
"""Longest integer that is kept: Python refuses to print those of more than some 14,000 bits."""

LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_SET": list, "EMPTY_DICT": dict,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Contents:
    """A pickle as data: dictionaries, lists, tuples, texts, numbers, `Tensor`, `Name` and `Opaque`; lists and dicts may be cyclic."""

    value: Any
    calls: tuple[str, ...]
    """Names of what unpickling would call, other than what torch writes for tensors and plain values; in file order."""


def read_pickle(data: bytes) -> Contents:
    """Follow a pickle without running anything of it, in bounded time and memory.

    Raises:
        DamagedPickleError: not a pickle, cut off, or larger than any checkpoint's.
    """
    if len(data) > MOST_BYTES:
        raise DamagedPickleError(f"its table of contents has {len(data):,} bytes; at most {MOST_BYTES:,} are read")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.spend(1)
            machine.step(opcode.name, argument)
        value = machine.stack.pop()
    except DamagedPickleError:
        raise
    except (ValueError, IndexError, KeyError) as error:  # of pickletools, or an empty stack, or a missing memo
        raise DamagedPickleError(f"its table of contents is damaged ({type(error).__name__}: {error})") from error
    return Contents(value, tuple(machine.calls))


class _Machine:
    """The unpickler's stack, marks and memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.calls: dict[str, None] = {}
        self._spent = 0
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def spend(self, work: int) -> None:
        """Count work, so that a short file cannot ask for a long time or for much memory."""
        self._spent += work
        if self._spent > MOST_OPERATIONS:
            raise DamagedPickleError(f"its table of contents has more than {MOST_OPERATIONS:,} entries")

    def step(self, name: str, argument: Any) -> None:
        """Follow one opcode."""
        if name in LITERALS:
            self.stack.append(_literal(argument))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self._memo[argument])
        elif name in FRESH:
            self.stack.append(FRESH[name]())
        elif name in TUPLES:
            size = TUPLES[name]
            if len(self.stack) < size:
                raise IndexError("a tuple of more than there is")
            self.stack[-size:] = [tuple(self.stack[-size:])]
        elif name not in ("PROTO", "FRAME", "STOP", "READONLY_BUFFER"):
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise DamagedPickleError(f"its table of contents uses {name}, which no checkpoint needs")
            method(argument)

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._to_mark()

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(items)

    _frozenset = _list

    def _dict(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(_pairs(items))

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    _additems = _appends

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target = target.listed
        if not isinstance(target, list):
            raise DamagedPickleError(f"its table of contents appends to a {type(target).__name__}")
        target.extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update({plain_key(key): value})

    def _setitems(self, _: Any) -> None:
        self._update(_pairs(self._to_mark()))

    def _update(self, values: dict[Any, Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target = target.items
        if not isinstance(target, dict):
            raise DamagedPickleError(f"its table of contents sets items of a {type(target).__name__}")
        target.update(values)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(_literal(module), _literal(name)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(*(part if isinstance(part, str) else "?" for part in (module, name))))

    def _ext1(self, code: int) -> None:
        self.stack.append(Name("copyreg", f"extension {code}"))

    _ext2 = _ext4 = _ext1

    def _binpersid(self, _: Any) -> None:
        self.stack.append(storage_of(self.stack.pop()))

    def _persid(self, argument: str) -> None:
        self.stack.append(Opaque(f"stored object {_literal(argument)!r}"))

    def _next_buffer(self, _: Any) -> None:
        self.stack.append(Opaque("a buffer outside the file"))

    def _reduce(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._called(function, args))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        named, args, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        made = self._called(function, args)
        if isinstance(made, Opaque) and isinstance(named, dict):
            self.spend(len(named))
            made.items.update(named)
        self.stack.append(made)

    def _inst(self, argument: str) -> None:
        args = tuple(self._to_mark())
        module, _, name = argument.partition(" ")
        self.stack.append(self._called(Name(_literal(module), _literal(name)), args))

    def _obj(self, _: Any) -> None:
        function, *args = self._to_mark()
        self.stack.append(self._called(function, tuple(args)))

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Opaque):  # of a state_dict it is the versions of its modules
            parts = state if isinstance(state, tuple) else (state,)
            for part in parts[:2]:
                if isinstance(part, dict):
                    self.spend(len(part))
                    target.items.update(part)

    def _called(self, function: Any, args: Any) -> Any:
        """What calling `function` would give, as data; it is not called."""
        args = args[:8] if isinstance(args, tuple) else (args,)
        self.spend(sum(len(part) for part in args if isinstance(part, Sized)))
        known = KNOWN.get(str(function)) if isinstance(function, Name) else None
        value = known(*args) if known is not None else None
        if value is not None:
            return value
        name = str(function) if isinstance(function, Name) else "an object of the file"
        if known is None:
            self.calls[name] = None
        return Opaque(name, args)


def _literal(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return Opaque(f"an integer of {value.bit_length():,} bits")
    return bytes(value) if isinstance(value, bytearray) else value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise DamagedPickleError("its table of contents has a key without a value")
    return {plain_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}
