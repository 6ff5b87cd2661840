"""The command line of `train`, made from `shared.config`: every field is an option, explained where it is defined."""

import argparse
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from shared.config import TrainConfig
from shared.configuring import COMMAND_LINE, build_config, group_of_option, read_config_file
from shared.errors import InputError

UNSET = argparse.SUPPRESS


def add_arguments(parser: argparse.ArgumentParser, shown: Mapping[str, str] | None = None) -> None:
    """One group per part of the configuration, one option per field; an option not given leaves no trace.

    A command with options of its own names those of `train` that its `--help` is to show, each with what it is where it is not
    given ("" for the default of `train`). All of them work.
    """
    parser.usage = "%(prog)s [--data_dir DIR] [--config FILE] [options]    (dashes or underscores, --no_x switches x off)"
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="options from a .toml or .json file, or from another run's run.json"
    )
    for name, group in TrainConfig.model_fields.items():
        part = group.default
        title = f"{name}: {(part.__class__.__doc__ or '').strip()}"
        section = parser.add_argument_group(title)
        for option, field in part.__class__.model_fields.items():
            _add_option(section, option, field, {option: ""} if shown is None else shown)
    if shown is not None:
        parser.epilog = "All options of train may be given: python -m backend train --help"


def _add_option(section: argparse._ArgumentGroup, option: str, field: FieldInfo, shown: Mapping[str, str]) -> None:
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType]
    otherwise = shown.get(option) or ("none" if field.default is None else field.default)
    text = f"{field.description} [{otherwise}]".replace("%", "%%") if option in shown else argparse.SUPPRESS
    if kinds == [bool]:
        section.add_argument(f"--{option}", action=argparse.BooleanOptionalAction, default=UNSET, help=text)
    elif get_origin(field.annotation) is Literal:
        section.add_argument(f"--{option}", metavar="|".join(get_args(field.annotation)), default=UNSET, help=text)
    elif isinstance(field.default, tuple):
        section.add_argument(f"--{option}", nargs=len(field.default), metavar="X", default=UNSET, help=text)
    else:
        section.add_argument(f"--{option}", metavar=kinds[0].__name__.upper(), default=UNSET, help=text, type=_none_or_text)


def _none_or_text(text: str) -> str | None:
    return None if text.lower() == "none" else text


def existing(path: Path, what: str) -> Path:
    """A path that is there.

    Raises:
        InputError: it is not; called `what`, with the newest run of that name, which its time follows, or the nearest neighbour.
    """
    if path.exists():
        return path
    gone = path
    while not gone.parent.exists():
        gone = gone.parent
    there = [other.name for other in gone.parent.iterdir() if other.exists()] if gone.parent.is_dir() else []
    begun = [name for name in there if re.match(rf"{re.escape(gone.name)}-\d", name)]
    near = sorted(begun, reverse=True) or difflib.get_close_matches(gone.name, there, n=1, cutoff=0.75)
    meant = f"; did you mean {gone.with_name(near[0]) / path.relative_to(gone)}?" if near else ""
    raise InputError(f"{path}: no such {what}{meant}")


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line said, flat; nothing for options that were not given."""
    known = group_of_option()
    return {name: value for name, value in vars(args).items() if name in known}


def resolve(args: argparse.Namespace, base: TrainConfig | None = None) -> TrainConfig:
    """Defaults, overlaid by `base`, by `--config` and by the command line, in this order.

    Raises:
        InputError: an unknown key or a bad value, named as it was given.
    """
    config = base
    if args.config is not None:
        config = build_config(
            read_config_file(existing(args.config, "configuration file")), where=str(args.config), base=config
        )
    return build_config(given_options(args), where=COMMAND_LINE, base=config)
