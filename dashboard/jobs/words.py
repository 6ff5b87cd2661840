"""What may become a job: the argument list is read as the backend would read it, and checked, before anything is started."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dashboard.jobs.options import options
from dashboard.runs.loading import resolve_run
from shared.config import TrainConfig
from shared.configuring import build_config, read_config_file
from shared.errors import InputError
from shared.layout import RunLayout

COMMANDS = ("train", "resume", "visualize", "umap", "preflight", "diagnose")
WHERE = "job"


def check(words: Sequence[str], runs: Path) -> list[str]:
    """The words, if they may run: one of COMMANDS, options of the right kind, nothing written outside `runs`.

    Raises:
        InputError: says which word, and what is allowed.
    """
    if not words or words[0] not in COMMANDS:
        raise InputError(f"{WHERE}: {words[0] if words else ''!r} cannot be started from here; {', '.join(COMMANDS)} can")
    if any("\0" in word for word in words):
        raise InputError(f"{WHERE}: a word holds a NUL byte, which no program can be given")
    command, rest = words[0], list(words[1:])
    if command in ("train", "preflight"):
        check_training(command, rest, runs)
    elif command == "resume":
        check_branch(rest, runs)
    else:
        check_analysis(rest, runs)
    return list(words)


def check_training(command: str, words: list[str], runs: Path) -> TrainConfig:
    """The configuration that the words of `train` or `preflight` give.

    Raises:
        InputError: as `check`.
    """
    values = parse(words)
    target = values.get("resume_from_checkpoint")
    if target is not None and command == "preflight":
        raise InputError("trainer.resume_from_checkpoint: preflight looks at runs that are to begin; leave it out")
    if target is None and command == "train":
        values.setdefault("output_dir", TrainConfig().output.output_dir)
    _check_written(values, runs)
    return build_config(values, where=WHERE, base=base_of(target, runs) if target is not None else None)


def check_branch(words: list[str], runs: Path) -> TrainConfig:
    """The same for `resume RUN [--from CKPT] [options]`."""
    if not words:
        raise InputError(f"{WHERE}: the run to go back in is missing")
    start, left = _taken_out(words[1:], "--from")
    if start is not None and run_of(start, runs) != run_of(words[0], runs):
        raise InputError(f"--from: {start!r} is not a checkpoint of {words[0]}")
    values = parse(left)
    _check_written(values, runs)
    return build_config(values, where=WHERE, base=base_of(words[0], runs))


def check_analysis(words: Sequence[str], runs: Path) -> None:
    """Refuse words of an analysis that name a path outside `runs`; the first has to be a run or a checkpoint.

    Raises:
        InputError: names the word.
    """
    if not words:
        raise InputError(f"{WHERE}: the run is missing")
    run_of(words[0], runs)
    for word in words[1:]:
        value = word.partition("=")[2] if word.startswith("-") else word
        if ("/" in value or value == "..") and not _within(value, runs):
            raise InputError(f"{WHERE}: {value!r} is outside {runs}")


def _check_written(values: Mapping[str, Any], runs: Path) -> None:
    """Refuse to write elsewhere."""
    out, log = values.get("output_dir"), values.get("log_dir")
    if out is not None and not _is(out, runs):
        raise InputError(f"output.output_dir: jobs write into this dashboard's folder {runs}, got {out!r}")
    if log is not None and not _within(log, runs):
        raise InputError(f"output.log_dir: jobs write nothing outside {runs}, got {log!r}; leave it out")


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Options of training, flat, as `python -m backend` reads them: `--x 1`, `--x=1`, `--x`, `--no_x`; dashes as underscores.

    Raises:
        InputError: an unknown option, one without its value, or a word that belongs to none.
    """
    known = {option.name: option for option in options()} | {"data": next(o for o in options() if o.name == "data_dir")}
    found: dict[str, Any] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        negated = name.startswith("no_") and known.get(name[3:]) is not None and known[name[3:]].is_flag
        option = known.get(name[3:] if negated else name)
        if not word.startswith("--") or option is None:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(f"{WHERE}: unknown option {word!r}" + (f"; did you mean '--{near[0]}'?" if near else ""))
        if option.is_flag and equals:
            raise InputError(f"{option.key}: --{option.name} or --no_{option.name} switches it, got {word!r}")
        if option.is_flag:
            found[option.name] = not negated
            continue
        given = [value] if equals else [left.pop(0) for _ in range(min(option.count, len(left)))]
        if len(given) < option.count or (not equals and any(text.startswith("--") for text in given)):
            raise InputError(f"{option.key}: no value given after --{option.name}")
        found[option.name] = option.read(given)
    return found


def base_of(target: str, runs: Path) -> TrainConfig:
    """Configuration of the run that a folder or checkpoint in `runs` belongs to.

    Raises:
        InputError: not directly in `runs`, or it cannot be read.
    """
    layout = run_of(target, runs)
    return build_config(read_config_file(layout.run_json), where=str(layout.run_json))


def run_of(target: str, runs: Path) -> RunLayout:
    """The run in `runs` that a path to its folder, or to a file in its checkpoints, names.

    Raises:
        InputError: it names none.
    """
    path = Path(target)
    for folder in (path, path.parent.parent):
        layout = resolve_run(runs, folder.name)
        if layout is not None and _is(str(folder), layout.root):
            return layout
    raise InputError(f"{WHERE}: {target!r} is neither a run in {runs} nor one of its checkpoints")


def run_named(words: Sequence[str], runs: Path) -> str | None:
    """The run that checked words go on with or look into; None for those that make a new one."""
    if words[0] == "resume":
        return None
    target = parse(words[1:]).get("resume_from_checkpoint") if words[0] in ("train", "preflight") else words[1]
    return run_of(target, runs).root.name if target is not None else None


def _taken_out(words: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option, and the words without it."""
    for at, word in enumerate(words):
        if word == option and at + 1 < len(words):
            return words[at + 1], [*words[:at], *words[at + 2 :]]
        if word.startswith(f"{option}="):
            return word.partition("=")[2], [*words[:at], *words[at + 1 :]]
    return None, list(words)


def _is(path: str, folder: Path) -> bool:
    return Path(path).resolve() == folder.resolve()


def _within(path: str, folder: Path) -> bool:
    return Path(path).resolve().is_relative_to(folder.resolve())
