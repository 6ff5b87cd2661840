"""kill -9 at random moments, resume each time, against an undisturbed run: steps lost or doubled, torn reads.

The moments are spread over the whole run: one in five falls anywhere in the wall time of a process, start-up included, the
others around evenly spaced shares of the steps, and one in five of all while a checkpoint is written. A reader in a second
thread looks at all files of the run all the time, as a dashboard would.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import JsonlTail, read_record
from shared.schema import CheckpointSidecar, Heartbeat, RunInfo
from tests.benchmarks.harness import REPOSITORY, parser_of, report

OPTIONS = [
    "--width", "16", "--latent_dim", "4", "--levels", "1", "--transformer_layers", "1", "--transformer_heads", "2",
    "--set_heads", "1", "--batch_size", "4", "--val_check_interval", "0.5", "--checkpoint_every_n_steps", "5",
    "--update_frequency", "10", "--plot_frequency", "50", "--cpu_threads", "1", "--accelerator", "cpu",
]  # fmt: skip
CLOCK = {"step_s", "wait_s", "probe_s"}
CERTAIN = ("validation",)
"""Kinds of evaluation whose steps are fixed; probes follow a time budget."""


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = parser_of("kill_resume", __doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often the process is killed [20]")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments [0]")
    parser.add_argument("--patients", type=int, default=150, help="simulated stays [150]")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of the run [40]")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder))


def measure(args: argparse.Namespace, base: Path) -> None:
    """An undisturbed run, then one that is killed again and again; compare and report."""
    backend("prepare", "simulate", str(base / "stays"), "--patients", str(args.patients)).wait()
    options = ["--data_dir", str(base / "stays"), "--max_epochs", str(args.epochs), *OPTIONS]
    began = time.monotonic()
    finish(backend("train", "--output_dir", str(base / "calm"), *options))
    length = time.monotonic() - began
    reader = Reader(base / "shaken")
    reader.start()
    moments = kill_and_resume(args, base / "shaken", options, length)
    reader.stop()
    calm, shaken = only_run(base / "calm"), only_run(base / "shaken")
    assert calm is not None and shaken is not None
    doubled, difference = compare(calm, shaken)
    wrong = reader.torn + ([] if read_record(shaken.run_json, RunInfo).state == "finished" else ["not finished"])
    rows: list[dict[str, object]] = [
        {"kill": i, "after_s": after, "phase": phase, "step": step} for i, (after, phase, step) in enumerate(moments, 1)
    ]
    for text in [*doubled, *wrong]:
        print(text, file=sys.stderr)
    report(
        "kill_resume", rows,
        {"lost_or_doubled_steps": len(doubled), "torn_reads": len(wrong), "kills": len(moments), "reads": reader.reads,
         "max_metric_difference": difference, "steps": len(read_rows(calm.metrics)), "undisturbed_s": round(length, 1)},
    )  # fmt: skip


def backend(*words: str) -> subprocess.Popen[bytes]:
    """`python -m backend ...`, silent."""
    command = [sys.executable, "-m", "backend", *words]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait; a failure ends the benchmark with what the process said."""
    said = process.communicate()[1].decode()
    if process.returncode != 0:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{said[-2000:]}")


def kill_and_resume(
    args: argparse.Namespace, out: Path, options: list[str], length: float
) -> list[tuple[float, str, int | None]]:
    """Start, kill and resume until `kills` are done, then let it finish. Returns (seconds, phase, step) of each kill.

    The i-th kill waits until the run has done its share of the steps, then for a random time of up to two seconds: a new
    process needs its start-up before it does any step, and would never get further if each were killed in it.
    """
    rng = random.Random(args.seed)
    moments: list[tuple[float, str, int | None]] = []
    while len(moments) < args.kills:
        process = start_or_resume(out, options)
        began = time.monotonic()
        aim = len(moments) % 5
        if aim == 0:  # anywhere, mostly in start-up
            time.sleep(rng.uniform(0, 0.4 * length))
        else:
            wait_for_share(process, out, len(moments) / args.kills)
            time.sleep(rng.uniform(0, 0.5 * length / args.kills))
        if aim == 4:  # while a checkpoint is written
            wait_for_file(process, out, "checkpoints/*.tmp")
        if process.poll() is not None:
            finish(process)
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        moments.append((round(time.monotonic() - began, 2), *state_of(out)))
    while (run := only_run(out)) is None or read_record(run.run_json, RunInfo).state != "finished":
        finish(start_or_resume(out, options))
    return moments


def start_or_resume(out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Go on with the run in `out`; start one when there is none yet."""
    run = only_run(out)
    if run is None:
        return backend("train", "--output_dir", str(out), *options)
    return backend("train", "--resume_from_checkpoint", str(run.root))


def wait_for_share(process: subprocess.Popen[bytes], out: Path, share: float) -> None:
    """Until this process has taken the run past a share of its steps."""
    while process.poll() is None:
        run = only_run(out)
        try:
            if run is not None:
                beat, info = read_record(run.heartbeat, Heartbeat), read_record(run.run_json, RunInfo)
                if beat.pid == process.pid and len(read_rows(run.metrics)) >= share * (info.max_steps or 0):
                    return
        except InputError:
            pass
        time.sleep(0.01)


def wait_for_file(process: subprocess.Popen[bytes], out: Path, pattern: str) -> None:
    """Until a file of the run appears, without a pause: such a file lives for milliseconds."""
    while process.poll() is None:
        run = only_run(out)
        if run is not None and next(run.root.glob(pattern), None) is not None:
            return


def state_of(out: Path) -> tuple[str, int | None]:
    """What the heartbeat last said."""
    run = only_run(out)
    try:
        beat = read_record(run.heartbeat, Heartbeat) if run else None
    except InputError:
        beat = None
    return (beat.phase, beat.step) if beat else ("before the first heartbeat", None)


def only_run(out: Path) -> RunLayout | None:
    """The run in `out`; a folder that was killed before its run.json is none."""
    found = [RunLayout(path) for path in out.glob("*") if (path / "run.json").exists()]
    return found[0] if found else None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All lines; a torn one would raise."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def compare(calm: RunLayout, shaken: RunLayout) -> tuple[list[str], float]:
    """What is lost, doubled or out of order, in words; and the largest difference of any figure."""
    problems: list[str] = []
    largest = 0.0
    for name, key in (("metrics", "step"), ("evaluations", "step")):
        ours, theirs = (
            [row for row in read_rows(getattr(run, name)) if row.get("kind", CERTAIN[0]) in CERTAIN] for run in (shaken, calm)
        )
        steps, expected = [row[key] for row in ours], [row[key] for row in theirs]
        if steps != expected:
            lost = sorted(set(expected) - set(steps))
            problems += [f"{name}: step {step} is lost" for step in lost]
            problems += [
                f"{name}: step {step} is doubled" for step in sorted({s for s in steps if steps.count(s) > expected.count(s)})
            ]
            problems += [] if problems else [f"{name}: out of order"]
            continue
        for row, other in zip(ours, theirs, strict=True):
            if row.keys() != other.keys():
                problems.append(f"{name}: step {row[key]} has other columns")
                continue
            pairs = [(row[k], other[k]) for k in row.keys() - CLOCK if isinstance(row[k], int | float)]
            largest = max([largest, *(abs(a - (b or 0)) for a, b in pairs)])
    return problems, largest


class Reader(threading.Thread):
    """Reads every file of the run all the time and keeps what could not be read."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out = out
        self.torn: list[str] = []
        self.reads = 0
        self._done = threading.Event()
        self._tails: dict[Path, JsonlTail] = {}

    def run(self) -> None:
        """Until stopped, and once more after that."""
        while not self._done.wait(0.002):
            self._look()
        self._look()

    def stop(self) -> None:
        """End with a last look."""
        self._done.set()
        self.join()

    def _look(self) -> None:
        run = only_run(self.out)
        if run is None:
            return
        self._record(run.run_json, RunInfo)
        self._record(run.heartbeat, Heartbeat)
        for path in run.checkpoints.glob("*.json"):
            self._record(path, CheckpointSidecar)
        for path in (run.metrics, run.evaluations, run.events):
            tail = self._tails.setdefault(path, JsonlTail(path))
            tail.read()
            self.reads += 1
            self.torn += [problem for problem in tail.problems if problem not in self.torn]

    def _record(self, path: Path, kind: type[BaseModel]) -> None:
        self.reads += 1
        try:
            read_record(path, kind)
        except InputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                self.torn.append(str(error))
