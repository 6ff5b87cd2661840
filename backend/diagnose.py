"""`python -m backend diagnose runs/NAME`: what is wrong with a posterior, since when, why, and what helps.

PATH is a run, a folder of runs, or a folder (or file) of TensorBoard logs, one report for each. Logs hold scalars only: they get
the part of the report that scalars allow, and it says what could not be judged. Nothing is written unless --output asks for it.

Exit status: 0 healthy, 3 warning, 4 alarm, 5 nothing is known for or against (too little data, monitoring off, scalars alone);
of several reports the most serious counts. 2 is bad input.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import orjson

from backend.diagnosis import Diagnosis, diagnose_run_folder, diagnose_tensorboard
from backend.diagnosis_report import explained, text_of
from backend.options import existing
from backend.tensorboard_logs import log_folders
from backend.tensorboard_tags import add_tag_options
from shared.collapse import Sensitivity
from shared.errors import InputError
from shared.layout import SCHEMA_VERSION, RunLayout, iter_runs
from shared.writer import replace_atomically

REPORT = "collapse_analysis.txt"
EXIT = {"ok": 0, "insufficient": 5, "warning": 3, "alarm": 4}
"""From the least serious to the most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run, a folder of runs, or TensorBoard logs")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help=f"also write it: into a folder as {REPORT}, or to a .txt or .json file"
    )
    parser.add_argument(
        "--sensitivity", choices=get_args(Sensitivity), help="judge by this preset [that of the run; balanced for logs]"
    )
    add_tag_options(parser)
    parser.epilog = explained()
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: nothing to diagnose there, or options that do not fit it.
    """
    if args.kl_mean_over is not None and args.kl_mean_over < 1:
        raise InputError(f"--kl_mean_over {args.kl_mean_over}: at least 1")
    reports = list(diagnoses(args.path, args.sensitivity, given_tags(args.tag), args.kl_mean_over))
    status = EXIT[max((report.severity for report in reports), key=list(EXIT).index)]
    text = "\n".join(text_of(report) for report in reports)
    plain = {"schema_version": SCHEMA_VERSION, "exit_status": status, "reports": [report.as_json() for report in reports]}
    if args.output is not None:
        write(args.output, text, plain)
    print(as_json(plain).decode() if args.json else text, end="")
    return status


def diagnoses(path: Path, sensitivity: Sensitivity | None, tags: dict[str, str], mean_over: int | None) -> Iterator[Diagnosis]:
    """A report for each run or log at `path`."""
    existing(path, "file or folder")
    runs = [path] if RunLayout(path).run_json.exists() else [layout.root for layout in iter_runs(path)]
    if runs and (tags or mean_over):
        raise InputError("--tag and --kl_mean_over are for TensorBoard logs; a run says itself what is what")
    logs = [] if runs else log_folders(path)
    if not runs and not logs:
        raise InputError(f"{path}: neither a run (run.json), nor a folder of runs, nor TensorBoard logs (*tfevents*)")
    makers: list[Callable[[], Diagnosis]] = [partial(diagnose_run_folder, folder, sensitivity) for folder in runs]
    makers += [partial(diagnose_tensorboard, folder, sensitivity, tags, mean_over) for folder in logs]
    broken = 0
    for make in makers:
        try:
            yield make()
        except InputError as error:  # the others are reported on
            if len(makers) == 1:
                raise
            broken += 1
            print(f"left out: {error}", file=sys.stderr)
    if broken == len(makers):
        raise InputError(f"{path}: none of {broken} runs or logs can be read")


def given_tags(words: list[str]) -> dict[str, str]:
    """NAME=TAG words as a table. A tag may hold further equals signs."""
    found = {}
    for word in words:
        name, equals, tag = word.partition("=")
        if not (name and equals and tag):
            raise InputError(f"--tag {word}: expected NAME=TAG, as kl=train/my_kl")
        found[name] = tag
    return found


def as_json(plain: dict[str, Any]) -> bytes:
    """Indented; NaN as null."""
    return orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write(target: Path, text: str, plain: dict[str, Any]) -> None:
    """Write the report to a file of a known kind, or into a folder, which is made."""
    named = target.suffix in (".txt", ".json") and not target.is_dir()
    file = target if named else target / REPORT
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(file, as_json(plain) if file.suffix == ".json" else text.encode())
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); choose another --output") from error
    print(f"written to {file}", file=sys.stderr)
