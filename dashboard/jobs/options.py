"""The options of a training run as a form needs them, read from `shared.config`: kind, limits, default, explanation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from shared.config import TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.remedies import ACTIONS, APPLY, REMEDIES

Kind = Literal["flag", "choice", "whole", "number", "numbers", "text"]
NONE = "none"
"""How a missing value is written, on the command line and in the form."""
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
NAMED = {"on_collapse": (*ACTIONS, *(APPLY + name for name in REMEDIES)), "remedy": tuple(REMEDIES)}
"""Options that are text to the trainer, with the texts it takes."""
KINDS: dict[type, Kind] = {int: "whole", float: "number", str: "text", bool: "flag"}
EXPECTED = {"whole": "a whole number", "number": "a number", "text": "text"}


@dataclass(frozen=True)
class Option:
    """One option."""

    group: str
    name: str
    kind: Kind
    default: Any
    description: str
    optional: bool
    choices: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    count: int = 1
    """Words that its value takes."""

    @property
    def key(self) -> str:
        """The dotted name, as errors say it."""
        return f"{self.group}.{self.name}"

    @property
    def is_flag(self) -> bool:
        """Given as --x or --no_x, without a value."""
        return self.kind == "flag"

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices or self.is_flag:
            kind = f"one of {', '.join(self.choices)}" if self.choices else "on or off"
        elif self.kind == "numbers":
            kind = f"{self.count} numbers"
        else:
            kind = " ".join((EXPECTED[self.kind], " and ".join(self.limits))).strip()
        return f"{kind}, or none" if self.optional else kind

    def read(self, given: Sequence[str]) -> Any:
        """A value as `build_config` takes it, from the words of a command line."""
        if self.kind == "numbers":
            return tuple(given)
        plain = self.kind == "choice" and self.name not in NAMED
        return None if given[0].lower() == NONE and not plain else given[0]

    def write(self, value: Any) -> str:
        """A value as the form shows it and as the command line takes it."""
        if value is None:
            return NONE
        if isinstance(value, bool):
            return "on" if value else "off"
        if self.kind == "numbers":
            return " ".join(part if isinstance(part, str) else _shortest(part) for part in value)
        return _shortest(value) if isinstance(value, float) else str(value)

    def type(self, text: str) -> Any:
        """A value as `build_config` takes it, from what was typed into the form."""
        text = text.strip()
        if self.kind == "numbers":
            return tuple(text.replace(",", " ").split())
        if self.is_flag:
            return {"on": True, "off": False, NONE: None}.get(text, text)
        return None if self.optional and text.lower() in (NONE, "") else text


def _shortest(value: float) -> str:
    """1 and not 1.0, 1e-07 and not 0.0000001; and nothing lost."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


@cache
def options() -> tuple[Option, ...]:
    """All of them, in the order of the configuration."""
    return tuple(
        _option(group, name, field)
        for group, part in TrainConfig.model_fields.items()
        for name, field in part.default.__class__.model_fields.items()
    )


@cache
def option(name: str) -> Option:
    """One by its name, which is unique over groups."""
    return next(each for each in options() if each.name == name)


def groups() -> dict[str, str]:
    """Group to what it is about."""
    return {name: (field.default.__class__.__doc__ or "").strip() for name, field in TrainConfig.model_fields.items()}


def _option(group: str, name: str, field: FieldInfo) -> Option:
    inner = get_args(field.annotation) if get_origin(field.annotation) not in (Literal, tuple) else (field.annotation,)
    kinds = [kind for kind in inner or (field.annotation,) if kind is not NoneType]
    origin = get_origin(kinds[0])
    return Option(
        group, name,
        kind="choice" if origin is Literal or name in NAMED else "numbers" if origin is tuple else KINDS[kinds[0]],
        default=field.default,
        description=field.description or "",
        optional=NoneType in inner,
        choices=get_args(kinds[0]) if origin is Literal else NAMED.get(name, ()),
        limits=tuple(f"{words} {getattr(m, sign):g}" for m in field.metadata for sign, words in LIMITS.items() if hasattr(m, sign)),
        count=len(field.default) if origin is tuple else 1,
    )  # fmt: skip


def values_of(config: TrainConfig) -> dict[str, Any]:
    """All values, flat."""
    return {name: value for group in config.model_dump().values() for name, value in group.items()}


def check(values: Mapping[str, Any], base: TrainConfig | None = None) -> tuple[TrainConfig | None, dict[str, str]]:
    """The configuration that `values` over `base` give, or None; and what is wrong, by option (or by group, where it is about
    several): dotted name, value and what is allowed.
    """
    try:
        return build_config(dict(values), where="form", base=base), {}
    except InputError as error:
        if not isinstance(error.__cause__, ValidationError):
            return None, {"": str(error)}
        return None, {str(item["loc"][min(1, len(item["loc"]) - 1)]): _said(item) for item in error.__cause__.errors()}


def _said(item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    known = next((each for each in options() if [each.group, each.name] == location[:2]), None)
    if item["type"] == "value_error":
        why = str(item["msg"]).removeprefix("Value error, ")
    else:
        why = f"expected {known.allowed}" if known else str(item["msg"])
    got = f", got {item['input']!r}" if known else ""
    return f"{'.'.join(location[:2])}: {why}{got}"


def words_of(config: TrainConfig, base: TrainConfig | None = None, always: Sequence[str] = ()) -> list[str]:
    """The words that turn `base` (the defaults) into `config`: only what differs, and the options in `always`."""
    before, after = values_of(base or TrainConfig()), values_of(config)
    return [
        word for each in options() if after[each.name] != before[each.name] or each.name in always
        for word in words_for(each, after[each.name])
    ]  # fmt: skip


def words_for(each: Option, value: Any) -> list[str]:
    """The words that give one option its value. One that begins with a dash is joined to the name, lest it be taken for another.

    Raises:
        InputError: a switch cannot be set back to none on a command line.
    """
    if each.is_flag:
        if value is None:
            raise InputError(f"{each.key}: a command line can switch it on or off, not leave it to choose by itself again")
        return [f"--{each.name}" if value else f"--no_{each.name}"]
    if each.kind == "numbers":
        return [f"--{each.name}", *each.write(value).split()]
    text = each.write(value)
    return [f"--{each.name}={text}"] if text.startswith("-") else [f"--{each.name}", text]
