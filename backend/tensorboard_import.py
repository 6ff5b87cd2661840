"""`python -m backend import LOGDIR`: TensorBoard logs become runs, which the dashboard shows beside the others.

Each directory below LOGDIR that holds event files becomes one run folder. Tags that are known (`train/kl`, `val/auroc`, ...) get
the names of a run's own figures, the others keep theirs; wall times, epochs and hyperparameters are kept. The posterior is judged
as `diagnose` does, as far as scalars allow. Import again to bring a run up to date; --follow does so while the log grows.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.progress import DownloadColumn, TimeRemainingColumn

from backend.diagnose import given_tags
from backend.folders import interrupted_by_terminate
from backend.options import existing
from backend.tensorboard_follow import follow
from backend.tensorboard_logs import LogReader, log_folders
from backend.tensorboard_run import LogImport
from backend.tensorboard_tags import NAMES
from backend.terminal import progress_bar
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunInfo, RunState

OF_HPARAMS = re.compile(r"\d{9,}\.\d+")
"""Folders that SummaryWriter.add_hparams makes beside the log they belong to."""
OF_VERSION = re.compile(r"version_\d+|tb|tensorboard|logs?|events")
"""Folder names that say nothing without the one above them."""


@dataclass(frozen=True)
class Found:
    """One log: its folder, further folders that belong to it, and the name of its run."""

    folder: Path
    beside: tuple[Path, ...]
    name: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("logdir", type=Path, metavar="LOGDIR", help="a TensorBoard log directory, with one log or many")
    parser.add_argument("--output_dir", type=Path, default=Path("runs"), help="the runs folder [runs]")
    parser.add_argument("--name", help="of the run; of several, what their names begin with [that of the log's folder]")
    parser.add_argument("--follow", action="store_true", help="go on as the logs grow, until Ctrl-C")
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="NAME=TAG",
        help=f"read TAG as NAME, one of {', '.join(NAMES)}; may be repeated",
    )
    parser.add_argument(
        "--kl_mean_over", type=int, metavar="D", help="the logged KL is a mean over D latent dimensions (1: a sum)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: no logs there, nothing readable in them, a run of another origin in the way, a full disk.
    """
    if args.kl_mean_over is not None and args.kl_mean_over < 1:
        raise InputError(f"--kl_mean_over {args.kl_mean_over}: at least 1")
    found = logs_below(args.logdir, args.name)
    imports, broken = [], []
    for log in found:
        try:
            imports.append(import_log(log, args))
        except InputError as error:  # the others are imported
            if len(found) == 1:
                raise
            broken.append(error)
            print(f"left out: {error}", file=sys.stderr)
    if not imports:
        raise InputError(f"{args.logdir}: none of {len(found)} logs can be imported")
    if args.follow:
        with interrupted_by_terminate():
            finished = follow(imports)
        for made in finished:
            say(made, "finished")
    return 0


def logs_below(top: Path, name: str | None) -> list[Found]:
    """The logs at or below a directory, each with the name of its run.

    Raises:
        InputError: no such directory, no logs in it, or a name that is no folder's.
    """
    folders = log_folders(existing(top, "file or folder"))
    if not folders:
        raise InputError(f"{top}: no TensorBoard logs (*tfevents*) at or below it")
    if name is not None and ("/" in name or name.startswith(".") or not name.strip()):
        raise InputError(f"--name {name!r}: must be a plain folder name")
    beside = {folder: folder.parent for folder in folders if folder.parent in folders and OF_HPARAMS.fullmatch(folder.name)}
    own = [folder for folder in folders if folder not in beside]
    found = []
    for folder in own:
        inside = folder.resolve().relative_to(top.resolve() if top.is_dir() else top.resolve().parent).parts
        parts = [name or top_name(top.resolve()), *inside]
        called = name if len(own) == 1 and name is not None else "-".join(parts)
        found.append(Found(folder, tuple(f for f, parent in beside.items() if parent == folder), plain(called)))
    return found


def top_name(top: Path) -> str:
    """Of the directory; with the one above where it says nothing alone."""
    return f"{top.parent.name}-{top.name}" if OF_VERSION.fullmatch(top.name.lower()) and top.parent.name else top.name


def plain(name: str) -> str:
    """As a folder's name."""
    return re.sub(r"[^\w.=,@+-]+", "-", name).strip(".-") or "imported"


def import_log(found: Found, args: argparse.Namespace) -> LogImport:
    """Read one log and write its run, unless it is there and nothing has changed.

    Raises:
        InputError: nothing can be read, or the run folder is of another origin or cannot be written.
    """
    layout = RunLayout(args.output_dir / found.name)
    before = known_import(layout, found.folder)
    made = LogImport(LogReader(found.folder, found.beside), layout, given_tags(args.tag), args.kl_mean_over)
    with progress_bar(DownloadColumn(), TimeRemainingColumn()) as bar:
        reading = bar.add_task(found.name, total=made.reader.size())
        made.reader.read(lambda count: bar.advance(reading, count))
        made.reader.check()
        if not made.reader.log.scalars:
            raise InputError(f"{found.folder}: holds no scalars; only scalars become curves of a run")
        if not args.follow and before is not None and unchanged(before, made):
            print(f"{layout.root}: is up to date (step {made.reader.log.last_step:,})")
            return made
        task = bar.add_task("writing", total=None)
        try:
            made.write(RunState.RUNNING if args.follow else RunState.FINISHED, lambda count: bar.advance(task, count))
        except OSError as error:
            raise InputError(f"{layout.root}: cannot be written ({error.strerror}); choose another --output_dir") from error
    say(made, "updated" if before is not None else "imported")
    return made


def unchanged(before: RunInfo, made: LogImport) -> bool:
    """Whether an import would write what is there."""
    known = before.imported
    return (
        before.state is RunState.FINISHED
        and known is not None
        and (known.files, known.tags, known.kl_mean_over) == (made.reader.read_so_far(), made.named_tags(), made.mean_over)
    )


def known_import(layout: RunLayout, source: Path) -> RunInfo | None:
    """The run that an earlier import of this log made, None where there is nothing.

    Raises:
        InputError: another run, or something else, has the name.
    """
    if not layout.root.exists():
        return None
    info = read_record(layout.run_json, RunInfo) if layout.run_json.exists() else None
    if info is None and not any(layout.root.iterdir()):
        return None
    if info is None or info.imported is None or info.imported.path != str(source.resolve()):
        origin = "no run" if info is None else f"imported from {info.imported.path}" if info.imported else "a run of its own"
        raise InputError(f"{layout.root}: is there already and is {origin}; choose another --name")
    return info


def say(made: LogImport, what: str) -> None:
    """What was written."""
    log, verdict = made.reader.log, made.verdicts.verdicts({})[0]
    print(f"{made.layout.root}: {what}, {len(log.scalars)} tags to step {log.last_step:,}; {verdict.severity}: {verdict.title}")
    for note in log.notes:
        print(f"  {note}", file=sys.stderr)
