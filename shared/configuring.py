"""A checked configuration out of what a command line, a config file or a form holds."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from shared.config import TrainConfig
from shared.errors import InputError

COMMAND_LINE = "command line"
"""Where values come from that were given as `--option value`."""


def group_of_option() -> dict[str, str]:
    """Option name to the name of its group. Names are unique over groups (a test checks it)."""
    return {
        option: group for group, field in TrainConfig.model_fields.items() for option in field.default.__class__.model_fields
    }


def build_config(values: dict[str, Any], *, where: str = "options", base: TrainConfig | None = None) -> TrainConfig:
    """A checked configuration from flat (`batch_size`) or grouped (`data: {batch_size}`) values laid over `base`.

    Raises:
        InputError: an unknown key (with the nearest valid one) or a bad value, by its dotted key (`optim.lr`) or its option (`--lr`).
    """
    groups = group_of_option()
    merged = (base or TrainConfig()).model_dump()
    for key, value in values.items():
        name = key.replace("-", "_")
        if name in merged and isinstance(value, dict):
            for given, inner in value.items():
                option = given.replace("-", "_")
                if groups.get(option) != name:
                    raise _unknown(f"{name}.{option}", option, groups, where)
                merged[name][option] = inner
        elif name in merged:
            raise InputError(f"{where}: {name!r} is a group of options: expected a table, got {value!r}")
        elif name in groups:
            merged[groups[name]][name] = value
        else:
            raise _unknown(name, name, groups, where)
    try:
        return TrainConfig.model_validate(merged)
    except ValidationError as error:
        lines = [f"{_named(item['loc'], where)}: {_wrong(item['msg'], item['input'])}" for item in error.errors()]
        raise InputError(f"{where}: " + "; ".join(lines)) from error


def _wrong(message: str, value: object) -> str:
    """What pydantic, or a validator of our own, says of a value; after a question of its own the value is named already."""
    said = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    return said if said.endswith("?") else f"{said}, got {value!r}"


def _named(place: tuple[int | str, ...], where: str) -> str:
    """A field as the reader wrote it: `--beta_max` on a command line, `loss.beta_max` elsewhere."""
    return f"--{place[1]}" if where == COMMAND_LINE and len(place) > 1 else ".".join(map(str, place))


def _unknown(shown: str, name: str, groups: dict[str, str], where: str) -> InputError:
    near = difflib.get_close_matches(name, [*groups, *TrainConfig.model_fields], n=1)
    if name in groups:
        hint = f"it belongs to {groups[name]!r}"
    else:
        hint = f"did you mean {near[0]!r}?" if near else "see `python -m backend train --help`"
    return InputError(f"{where}: unknown option {shown!r}; {hint}")


def read_config_file(path: Path) -> dict[str, Any]:
    """Values of a `.toml` or `.json` config file (a run's `run.json` also serves: its `config` is taken).

    Raises:
        InputError: missing, of another kind, or not parseable; the message has the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            values = orjson.loads(text)
        elif path.suffix == ".toml":
            values = tomllib.loads(text)
        else:
            raise InputError(f"{path}: a config file ends in .toml or .json")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a table of options")
    return values["config"] if path.name == "run.json" and "config" in values else values
