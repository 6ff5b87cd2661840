"""`python -m backend curves runs/NAME`, or of any TensorBoard log directory: its curves as pictures, and what they say as text.

Writes loss_curves.png, performance_metrics.png, training_dynamics.png and collapse_analysis.txt, with the curves, limits and
marks of the dashboard's pages. A directory with several logs gets a folder for each. PATH may also be a checkpoint of a run.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from backend.curves_source import PlainSource, source_of_log, source_of_run
from backend.diagnose import REPORT, given_tags
from backend.diagnosis import Diagnosis, diagnose_log, diagnose_run_folder
from backend.diagnosis_report import WIDTH, text_of
from backend.options import existing
from backend.tensorboard_logs import log_folders, read_log
from backend.tensorboard_places import places
from backend.tensorboard_tags import NAMES, add_tag_options, read_tags
from shared.errors import InputError
from shared.layout import RunLayout, iter_runs
from shared.panels import DECODER, KL_LOSS, LOSSES, OUTCOME, PACE, POSTERIOR, WEIGHTS, Panel
from shared.writer import replace_atomically

KL, VARIANCE, UNITS, RECON = POSTERIOR
SHEETS: dict[str, tuple[tuple[Panel, ...], int]] = {
    "loss_curves.png": ((*LOSSES, RECON, KL, KL_LOSS), 3),
    "performance_metrics.png": (OUTCOME, 3),
    "training_dynamics.png": ((VARIANCE, UNITS, WEIGHTS, *DECODER, *PACE), 3),
}
"""Picture to its charts, and how many stand in a row."""


@dataclass(frozen=True)
class Subject:
    """One run or log: what it is called, where its pictures go, what they show."""

    name: str
    out: Path
    source: PlainSource
    diagnosis: Diagnosis
    missing: dict[str, str]
    """Metric to why there is none"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run, a checkpoint of one, or TensorBoard logs")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the files go [the run's plots; the current folder for logs]"
    )
    add_tag_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command.

    Raises:
        InputError: neither a run nor a log, nothing readable in it, or the files cannot be written.
    """
    for subject in subjects(args):
        written = write(subject)
        verdict = subject.diagnosis.verdicts[0]
        print(f"{subject.name}: {verdict.severity}: {verdict.title}")
        print(f"  {', '.join(path.name for path in written)} in {subject.out}")
    return 0


def subjects(args: argparse.Namespace) -> Iterator[Subject]:
    """What PATH names: a run, or one or more logs."""
    path: Path = args.path
    existing(path, "file or folder")
    folder = path.absolute().parent.parent if path.suffix == ".ckpt" else path
    if RunLayout(folder).run_json.exists():
        if args.tag or args.kl_mean_over:
            raise InputError("--tag and --kl_mean_over are for TensorBoard logs; a run says itself what is what")
        yield of_run(RunLayout(folder), args.out)
        return
    runs = [layout.root for layout in iter_runs(path)] if path.is_dir() else []
    if runs:
        raise InputError(f"{path}: a folder of {len(runs)} runs; name one of them, as {runs[-1]}")
    logs = log_folders(path)
    if not logs:
        raise InputError(f"{path}: neither a run (run.json), nor a checkpoint of one, nor TensorBoard logs (*tfevents*)")
    out = args.out or Path()
    for log in logs:
        yield of_log(log, out if len(logs) == 1 else out / log_name(log, path), args)


def log_name(log: Path, top: Path) -> str:
    """A plain name for one of the logs below `top`."""
    inside = log.absolute().relative_to(top.absolute())
    return "-".join(inside.parts) or top.absolute().name


def of_run(layout: RunLayout, out: Path | None) -> Subject:
    """A run, in whatever state."""

    def told(lines: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        return track(
            lines, "reading the step log", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )

    source = source_of_run(layout, told=told)
    return Subject(layout.root.name, out or layout.plots, source, diagnose_run_folder(layout.root), {})


def of_log(path: Path, out: Path, args: argparse.Namespace) -> Subject:
    """A TensorBoard log: a metric that is not there is said to have no tag."""
    log = read_log(path)
    tags = read_tags({tag: len(values) for tag, values in log.scalars.items()}, given_tags(args.tag))
    diagnosis = diagnose_log(log, tags, mean_over=args.kl_mean_over)
    found = places(tags)
    own = [tag for (_, name), tag in found.items() if name == tag]
    read = {name: tag for (_, name), tag in found.items() if name != tag}
    diagnosis = replace(
        diagnosis, tags=read | diagnosis.tags, unused=[tag for tag in own if tag not in diagnosis.tags.values()]
    )
    source = source_of_log(log, found, diagnosis.verdicts, diagnosis.past)
    missing = {panel.metric: no_tag(panel) for panels, _ in SHEETS.values() for panel in panels}
    return Subject(path.absolute().name, out, source, diagnosis, missing)


def no_tag(panel: Panel) -> str:
    """What stands in the place of a curve that was not logged."""
    option = f"; if it has another name: --tag {panel.metric}=TAG" if panel.metric in NAMES else ""
    return f"No tag for {panel.info.label} in this log (known as {panel.metric}){option}"


def write(subject: Subject) -> list[Path]:
    """The four files, each whole or not at all."""
    from backend.plots import chart_sheet

    try:
        subject.out.mkdir(parents=True, exist_ok=True)
        for name, (panels, columns) in SHEETS.items():
            title = f"{subject.name}: {name.removesuffix('.png').replace('_', ' ')}"
            chart_sheet(subject.out / name, title, subject.source, panels, columns, subject.missing)
        text = text_of(subject.diagnosis) + reading_guide([panel for panels, _ in SHEETS.values() for panel in panels])
        replace_atomically(subject.out / REPORT, text.encode())
    except OSError as error:
        raise InputError(f"{subject.out}: cannot be written ({error.strerror}); choose another --out") from error
    return [subject.out / name for name in (*SHEETS, REPORT)]


def reading_guide(panels: Sequence[Panel]) -> str:
    """What each chart means, as text."""
    lines = ["", "Reading guide", "============="]
    for panel in panels:
        words = " ".join(panel.help.split())
        lines += ["", *textwrap.wrap(f"{panel.info.label}: {words}", WIDTH, subsequent_indent="  ", break_long_words=False)]
    return "\n".join(lines) + "\n"
