"""The trainings of a sweep: a process for each trial, the run that it writes, and how both come to their end."""

import glob
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from optuna.trial import Trial

from backend.ownership import HELPER_OF, refuse_running
from backend.sweep_space import Space
from shared.collapse import COLLAPSES
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import JsonlTail, each_row, read_record
from shared.schema import RunInfo, RunNotes, RunState
from shared.verdicts import VerdictLog
from shared.writer import replace_atomically, write_record

FINISHED, BAD_INPUT, COLLAPSED, INTERRUPTED = 0, 2, 3, 130
LOOK_EVERY_S = 0.5
LAST_LINES = 5

Look = Callable[[int, RunLayout, float | None], None]
"""Told now and then of a trial that trains, with its run and the newest value of the metric."""


@dataclass(frozen=True)
class Ended:
    """What came of one training."""

    run: RunLayout | None
    """None where it had not got so far as to have one."""
    status: int
    pruned: bool = False
    """Whether it was stopped because it fell behind."""
    said: list[str] = field(default_factory=list)
    """Its last lines."""


class Trainings:
    """Starts `train` for trials and waits, each call in a thread of its own; `stop` reaches all that run."""

    def __init__(self, space: Space, places: Sequence[str], jobs: int) -> None:
        self.space = space
        self.places = places
        """GPUs for one trial each."""
        self.jobs = jobs
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen] = set()

    def stop(self) -> None:
        """Ask all to stop, as Ctrl-C does: after the step in hand, and when asked again at once."""
        with self._lock:
            self._stopped.set()
            for child in self._children:
                child.send_signal(signal.SIGINT)

    def train(self, trial: Trial, worker: int, *, again: bool, looked: Look) -> Ended:
        """One trial from its start, or where it is taken up `again` from where its run stopped, to its end."""
        stem, folder = f"{self.space.name}-{trial.number:04d}", Path(self.space.base.output.output_dir)
        known = self._begun(trial, stem) if again else None
        if known is not None:
            if not self._wait_for(known):
                return Ended(known, INTERRUPTED)
            self._note(trial, known)
            if (status := status_of(known)) is not None:
                return Ended(known, status)
        older = set(runs_of(folder, stem)) - {known.root if known else None}
        with tempfile.TemporaryFile() as said, self._process(self._command(trial, stem, known), worker, said) as child:
            run, pruned = self._watch(child, trial, lambda: newest(folder, stem, older), looked)
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        return Ended(run, child.returncode, pruned, lines)

    def _begun(self, trial: Trial, stem: str) -> RunLayout | None:
        """The run of a trial that was stopped, or killed before its run was noted."""
        folder, noted = Path(self.space.base.output.output_dir), trial.user_attrs.get("run")
        run = RunLayout(folder / noted) if noted is not None else newest(folder, stem)
        return run if run is not None and run.run_json.exists() else None

    def _wait_for(self, run: RunLayout) -> bool:
        """A sweep that was killed leaves its trainings at work: they are let come to their end. False when stopped before."""
        while still_trained(run):
            if self._stopped.wait(LOOK_EVERY_S):
                return False
        return True

    def _command(self, trial: Trial, stem: str, known: RunLayout | None) -> list[str]:
        base, trainer = [sys.executable, "-m", "backend", "train"], self.space.base.trainer
        if trainer.cpu_threads is None and self.jobs > 1:
            threads = ((os.cpu_count() or 1) - 1) // (self.jobs * trainer.devices)
            base += ["--cpu_threads", str(max(threads, 1))]
        if known is not None:
            return [*base, "--resume_from_checkpoint", str(known.root)]
        return [*base, "--config", str(self._config()), "--run_name", stem, *self.space.words(trial.params)]

    def _config(self) -> Path:
        """The options of all trials as a file, beside the journal. Collapsed trials stop, unless another action is asked for."""
        path = Path(self.space.base.output.output_dir) / f".{self.space.name}.sweep.json"
        base = self.space.base
        action = "stop" if base.monitor.on_collapse == "warn" else base.monitor.on_collapse
        monitor = base.monitor.model_copy(update={"on_collapse": action})
        replace_atomically(path, base.model_copy(update={"monitor": monitor}).model_dump_json().encode())
        return path

    @contextmanager
    def _process(self, command: list[str], worker: int, said: IO[bytes]) -> Iterator[subprocess.Popen]:
        """A training in a session of its own: Ctrl-C reaches it once, from here."""
        environment = {name: value for name, value in os.environ.items() if name != HELPER_OF}
        if self.places:
            environment["CUDA_VISIBLE_DEVICES"] = self.places[worker % len(self.places)]
        with self._lock:
            child = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
            self._children.add(child)
            if self._stopped.is_set():
                child.send_signal(signal.SIGINT)
        try:
            yield child
        finally:
            child.wait()
            with self._lock:
                self._children.discard(child)

    def _watch(
        self, child: subprocess.Popen, trial: Trial, find: Callable[[], RunLayout | None], looked: Look
    ) -> tuple[RunLayout | None, bool]:
        """Wait for the end of a training: its run, and whether it was pruned before."""
        run, pruned, values = None, False, None
        while child.poll() is None:
            try:
                child.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                if run is None and (run := find()) is not None:
                    self._note(trial, run)
                if run is None:
                    continue
                values = values or Validations(run, self.space.metric)
                told = values.report(trial)
                looked(trial.number, run, values.newest)
                if told and not pruned and trial.should_prune():
                    pruned = True
                    child.send_signal(signal.SIGINT)
        if run is None and (run := find()) is not None:
            self._note(trial, run)
        return run, pruned

    def _note(self, trial: Trial, run: RunLayout) -> None:
        """In the journal, and in the run itself."""
        trial.set_user_attr("run", run.root.name)
        tag(run, self.space.name)


class Validations:
    """The metric at each validation of a run that trains. They are counted, for steps of other batch sizes do not compare."""

    def __init__(self, run: RunLayout, metric: str) -> None:
        self.metric = metric
        self.newest: float | None = None
        self._tail = JsonlTail(run.evaluations)
        self._count = 0

    def report(self, trial: Trial) -> bool:
        """Hand new ones to the pruner, if there are; a run that is gone on with has told it of the first already."""
        known, told = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, False
        for row in self._tail.read():
            if row.get("kind") != "validation" or row.get("full"):
                continue
            self._count += 1
            value = row.get(self.metric)
            if isinstance(value, int | float):
                self.newest = float(value)
                if self._count not in known:
                    trial.report(self.newest, self._count)
                    told = True
        return told


def runs_of(folder: Path, stem: str) -> list[Path]:
    """Folders of a trial's runs, in the order in which they were begun: its name and the time."""
    return sorted(folder.glob(f"{glob.escape(stem)}-{'[0-9]' * 8}-{'[0-9]' * 6}*"))


def newest(folder: Path, stem: str, older: "set[Path] | frozenset[Path]" = frozenset()) -> RunLayout | None:
    """The run of a trial, once it is there; `older` ones are of another sweep of that name."""
    found = [path for path in runs_of(folder, stem) if path not in older and RunLayout(path).run_json.exists()]
    return RunLayout(found[-1]) if found else None


def tag(run: RunLayout, name: str) -> None:
    """The sweep's name among the tags of a run, unless somebody has said something about it already."""
    if not run.notes.exists():
        write_record(run.notes, RunNotes(tags=[name]))


def score(run: RunLayout, metric: str) -> float | None:
    """Of the whole validation split at the end of a run."""
    rows = [row for row in each_row(run.evaluations) if row.get("kind") == "validation" and row.get("full")]
    value = rows[-1].get(metric) if rows else None
    return float(value) if isinstance(value, int | float) else None


def ends_collapsed(run: RunLayout) -> bool:
    """Whether an alarm of collapse holds at the end of a run."""
    log = VerdictLog()
    for event in each_row(run.events):
        log.take(event)
    return any(verdict.kind in COLLAPSES and verdict.severity == "alarm" for verdict in log.open.values())


def still_trained(run: RunLayout) -> bool:
    """Whether a process trains it."""
    try:
        refuse_running(run)
    except InputError:
        return True
    return False


def status_of(run: RunLayout) -> int | None:
    """The exit status of a training that ended without the sweep; None where there is something left to train."""
    info = read_record(run.run_json, RunInfo)
    if info.state is RunState.FINISHED:
        return FINISHED
    stopped = info.state is RunState.INTERRUPTED and info.error is not None and info.config["monitor"]["on_collapse"] == "stop"
    return COLLAPSED if stopped and ends_collapsed(run) else None


def last_error(said: Sequence[str]) -> str:
    """What a training that failed said of it: from its error on."""
    first = next((place for place, line in enumerate(said) if line.startswith("error: ")), 0)
    return " ".join(said[first:]).removeprefix("error: ")
