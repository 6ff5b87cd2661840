"""A checkpoint, evaluated on a sample of stays, as snapshots for the pages and as pictures."""

import argparse
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from rich.progress import Progress, TimeElapsedColumn

from backend.batches import StayDataset
from backend.build import module_from_checkpoint
from backend.checkpoints import load_checkpoint
from backend.evaluation import data_of
from backend.probe import StayProbe
from backend.probe_sample import SampleSize
from backend.snapshots import ProbeResult, write_frame
from backend.terminal import progress_bar
from backend.umap_run import library
from shared.configuring import build_config
from shared.embedding import OF_CHECKPOINT, Frame, read_embedding
from shared.errors import InputError
from shared.latents import LatentSets, read_latents
from shared.layout import RunLayout

SETS_PER_STAY = 8
"""Latents in the pictures and on the page: enough to follow a stay."""
SHOWN_SETS = 8192
"""Sets whose events go to the reconstruction snapshot, at most."""
MOST_LATENTS = 10_000


@dataclass(frozen=True)
class Seen:
    """A checkpoint, looked at."""

    title: str
    step: int
    label: str
    """Name of the outcome"""
    result: ProbeResult
    sets: LatentSets
    umap: Frame | str
    """The layout, or why there is none"""


def visualize(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint and write its snapshots and pictures; returns the exit status. Options are in range.

    Raises:
        InputError: no checkpoint of this program, other data than it was trained on, an empty split, a full disk.
    """
    from backend.visualize_figures import SHEETS, write_sheets

    checkpoint: Path = args.checkpoint
    own = RunLayout(checkpoint.absolute().parent.parent)
    in_run = own.run_json.exists()
    out = args.out or (own.plots / checkpoint.stem if in_run else Path())
    with contextlib.ExitStack() as stack:
        layout = own if in_run else RunLayout(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        result, step, label = evaluated(args)
        try:
            kinds = write_analysis(layout, checkpoint.stem, result)
            seen = Seen(
                f"{own.root.name} / {checkpoint.name}" if in_run else checkpoint.name, step, label, result,
                read_latents(layout.analysed("latents", checkpoint.stem)), laid_out(layout, checkpoint.stem),
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                f"{error.filename or layout.analysis}: cannot be written ({error.strerror}); snapshots and layout are kept with the "
                f"run, which has to be writable (--out moves only the pictures): copy {checkpoint.name} elsewhere for pictures alone"
            ) from error
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_sheets(seen, out)
        except OSError as error:
            raise InputError(f"{error.filename or out}: cannot be written ({error.strerror}); choose another --out") from error
    print(f"{checkpoint.name}: step {step:,}, {result.values['patients']:,.0f} stays of the {args.split} split")
    print(f"  {', '.join(SHEETS)} in {out}")
    shown = f"{', '.join(kinds)} in {layout.analysis}: the dashboard's pages show this checkpoint"
    print("  " + (shown if in_run else f"not in a run folder (no run.json in {own.root}): the dashboard does not show it"))
    return 0


def evaluated(args: argparse.Namespace) -> tuple[ProbeResult, int, str]:
    """Everything of the sample, the step of the checkpoint, and the name of the outcome."""
    loaded = load_checkpoint(args.checkpoint, needs=("config", "fingerprint"))
    known = loaded["seqsetvae"]
    config = build_config(known["config"], where=str(args.checkpoint))
    if args.data_dir is None and not Path(config.data.data_dir).exists():
        raise InputError(
            f"{config.data.data_dir}: the data of {args.checkpoint.name} is not there any more; say where it is with --data_dir"
        )
    data = data_of(config, args.checkpoint, args.data_dir)
    if data.info.fingerprint != known["fingerprint"]:
        raise InputError(
            f"--data_dir {args.data_dir or config.data.data_dir}: is not the data that {args.checkpoint.name} was trained on (its "
            f"fingerprint is {data.info.fingerprint[:12]}, not {known['fingerprint'][:12]}); point --data_dir at that"
        )
    module = module_from_checkpoint(args.checkpoint, data)
    dataset = StayDataset(data, args.split, module.config.data)
    if not len(dataset):
        raise InputError(f"--split {args.split}: {data.info.name!r} has no stays there")
    stays = min(args.max_batches * args.batch_size, len(dataset))
    pictured = min(SETS_PER_STAY * stays, MOST_LATENTS)
    size = SampleSize(shown=SHOWN_SETS, pictured=pictured, decoded=stays, stays_per_batch=args.batch_size)
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    return StayProbe(dataset, stays, size=size)(module), int(loaded["global_step"]), dataset.config.label


def write_analysis(layout: RunLayout, stem: str, result: ProbeResult) -> list[str]:
    """The snapshots of the checkpoint, each whole or not at all; returns their kinds. Raises OSError."""
    layout.analysis.mkdir(parents=True, exist_ok=True)
    frames: dict[str, pd.DataFrame | None] = {
        "posterior": result.posterior, "latents": result.latents, "reconstruction": result.reconstruction, "presence": result.presence,
        "observed": result.observed,
    }  # fmt: skip
    written = []
    for kind, frame in frames.items():
        if frame is None:
            continue
        write_frame(frame, layout.analysed(kind, stem))
        written.append(kind)
    return written


def laid_out(layout: RunLayout, stem: str) -> Frame | str:
    """UMAP of the latents, by what `python -m backend umap` does and kept where it keeps it; why not, where that is impossible."""
    from backend.umap_frames import make_frames

    target = layout.umap("latents", stem)
    try:
        with progress_bar(TimeElapsedColumn()) as bar:
            make_frames(
                {OF_CHECKPOINT: layout.analysed("latents", stem)}, "latents", target, OF_CHECKPOINT, library(), Bar(bar)
            )
        embedding = read_embedding(target)
    except InputError as error:
        return str(error)
    assert embedding is not None
    return embedding.frames[OF_CHECKPOINT]


class Bar:
    """Shows phases and shares of the layout."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("UMAP", total=1.0)

    def __call__(self, phase: str, share: float) -> None:
        """`share` of all that is to be done."""
        self._bar.update(self._task, completed=share, description=f"UMAP: {phase.partition(',')[0]}")
