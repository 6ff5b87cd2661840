"""Lay the latents of a run out in the plane (UMAP), for the dashboard's Latent space page; kept in the run's analysis folder.

python -m backend umap runs/NAME
python -m backend umap runs/NAME --of states --step 5000
python -m backend umap runs/NAME --checkpoint best_step-000005000_auroc-0.8589

All snapshots are laid out, aligned with each other, the one of --step (default: the newest) before the others; what is there
already is kept. Of a checkpoint, what `python -m backend visualize` made of it is laid out.
"""

import argparse
import contextlib
import importlib.util
import math
import os
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import orjson

from backend.folders import interrupted_by_terminate
from backend.options import existing
from shared.embedding import OF_CHECKPOINT
from shared.errors import InputError
from shared.layout import RunLayout
from shared.writer import replace_atomically

TELL_EVERY_S = 0.4
BEAT_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--of", choices=("latents", "states"), default="latents", help="posterior means, or transformer states")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--step", type=int, metavar="N", help="the snapshot to begin with (default: the newest)")
    source.add_argument("--checkpoint", metavar="STEM", help="a checkpoint's file name without .ckpt, instead of the snapshots")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises InputError for a run, step or checkpoint that is not there, or a folder that cannot be written."""
    layout, of, made_with = RunLayout(args.folder), args.of, library()
    sources = sources_of(layout, args.checkpoint)
    if args.step is not None and args.step not in sources:
        raise InputError(f"--step {args.step}: no latents snapshot of it; there are {', '.join(map(str, sorted(sources)))}")
    first = args.step if args.step is not None else max(sources)
    target = layout.umap(of, args.checkpoint)
    began, left = time.monotonic(), list[str]()

    def left_out(step: int, why: str) -> None:
        if step in (args.step, OF_CHECKPOINT):
            raise InputError(why)
        left.append(why)
        print(f"left out: {why}", file=sys.stderr, flush=True)

    try:
        with interrupted_by_terminate(), contextlib.closing(Progress(layout.progress(target))) as progress:
            progress("loading umap-learn", 0.0)
            from backend.umap_frames import make_frames

            made = make_frames(sources, of, target, first, made_with, progress, left_out)
    except OSError as error:
        raise InputError(
            f"{error.filename or target}: {error.strerror}; the layout is kept with the run, which has to be writable"
        ) from error
    print(f"{target}: {len(sources) - len(left)} frames, {made} of them new, {time.monotonic() - began:.1f} s")
    return 0


def sources_of(layout: RunLayout, checkpoint: str | None) -> dict[int, Path]:
    """Step to latents snapshot, of the run or of one checkpoint.

    Raises:
        InputError: no such run or checkpoint, or nothing to lay out yet.
    """
    if not layout.run_json.exists():
        existing(layout.root, "run folder")
        raise InputError(f"{layout.root}: no run folder (it has no {layout.run_json.name})")
    if checkpoint is not None:
        known = dict(layout.all_analysed("latents"))
        if checkpoint not in known:
            made = f"made so far: {', '.join(known)}" if known else "none was made so far"
            raise InputError(
                f"--checkpoint {checkpoint}: no latents of it in {layout.analysis}; {made}. "
                f"Make them: python -m backend visualize {layout.checkpoints / checkpoint}.ckpt"
            )
        return {OF_CHECKPOINT: known[checkpoint]}
    snapshots = dict(layout.snapshots("latents"))
    if not snapshots:
        raise InputError(
            f"{layout.root}: no latents snapshot yet; the first is written with the first evaluation of the probe set "
            "(monitor.update_frequency steps)"
        )
    return snapshots


class Progress:
    """Tells readers how far the work is, in a file that is replaced at most every 0.4 s, and every second while nothing moves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()
        self._told = -math.inf
        self._about = ("starting", 0.0)
        self._lock, self._ended = threading.Lock(), threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, phase: str, share: float) -> None:
        """`share` of all that is to be done. Raises OSError when the folder cannot be written."""
        self._about = phase, share
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._write()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(OSError):  # the work itself will meet it, and say it
                self._write()

    def _write(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._told = time.monotonic()
            phase, share = self._about
            about = {
                "phase": phase,
                "share": round(share, 4),
                "seconds": round(self._told - self._began, 1),
                "pid": os.getpid(),
            }
            replace_atomically(self._path, orjson.dumps(about))

    def close(self) -> None:
        """The work has ended, one way or the other."""
        with self._lock:
            self._ended.set()
            self._path.unlink(missing_ok=True)


def library() -> str:
    """Name and version of what lays out. Raises InputError where it is not installed."""
    if importlib.util.find_spec("umap") is None:
        raise InputError("umap-learn is not installed; install it: python -m pip install umap-learn")
    return f"umap-learn {version('umap-learn')}"
