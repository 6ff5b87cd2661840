"""Many trainings, each with other options, chosen by what the earlier ones have shown.

    python -m backend sweep beta.toml --jobs 2

where beta.toml holds options of `train`, for all trials, and a table of what to try:

    data_dir = "prepared/mine"
    max_epochs = 20

    [sweep]
    metric = "auroc"                  # of the whole validation split: auroc, auprc, accuracy, elbo, loss, recon, prediction
    trials = 30
    pruner = "median"                 # ends trials that fall behind the others; "none" lets all come to their end
    "loss.beta_max" = {low = 0.01, high = 1.0, log = true}
    "model.latent_dim" = [32, 64, 128]

Every trial is a run like any other, in --output_dir, tagged with the sweep's name: the Compare page shows them with the filter
`tag:beta`. A trial whose posterior collapses is stopped and counts as pruned. Ctrl-C stops the trainings between two steps; the
same command goes on with them, and a larger `trials` with more of them.

On Optuna, and not Ray Tune: it lives in this process and keeps its trials in a journal, one file beside the runs, with no cluster
or daemon to run; trials stay processes of `train`, which can be pruned while they train; and it installs without a service.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from backend.folders import interrupted_by_terminate
from backend.resume import HELPER_OF
from backend.sweep_space import Space, read_space
from shared.collapse import COLLAPSES
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import JsonlTail, each_row
from shared.schema import RunNotes
from shared.verdicts import VerdictLog
from shared.writer import replace_atomically, write_record

FINISHED, BAD_INPUT, COLLAPSED = 0, 2, 3
LOOK_EVERY_S = 0.5
LAST_LINES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("config", type=Path, help="TOML file: options of `train` and a [sweep] table, as above")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at a time; one per GPU where there are [1]")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; 130 when it was interrupted.

    Raises:
        InputError: a bad file or option, or a sweep of that name with another metric.
    """
    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: at least 1")
    space = read_space(args.config)
    study = open_study(space, args.jobs)
    sweep = Sweep(space, study, gpus())
    with interrupted_by_terminate():
        sweep.run(args.jobs)
    return 130 if sweep.stopped.is_set() else 0


def open_study(space: Space, jobs: int) -> optuna.Study:
    """The study in its journal `.NAME.sweep.journal` beside the runs, new or gone on with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(space.base.output.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output.output_dir: cannot create {folder}: {error.strerror}") from error
    storage = JournalStorage(JournalFileBackend(str(folder / f".{space.name}.sweep.journal")))
    pruner = optuna.pruners.MedianPruner() if space.pruner == "median" else optuna.pruners.NopPruner()
    study = optuna.create_study(
        storage=storage, study_name=space.name, direction=space.direction, load_if_exists=True, pruner=pruner,
        sampler=optuna.samplers.TPESampler(seed=space.base.trainer.seed, constant_liar=jobs > 1),
    )  # fmt: skip
    aim = f"{space.direction} {space.metric}"
    known = study.user_attrs.get("aim", aim)
    if known != aim:
        raise InputError(
            f"sweep.metric: the sweep {space.name!r} in {folder} is to {known}, not to {aim}; choose another sweep.name"
        )
    study.set_user_attr("aim", aim)
    return study


def gpus() -> int:
    """How many GPUs trials can be spread over."""
    import torch

    return torch.cuda.device_count()


class Sweep:
    """The trials of one study, several at a time."""

    def __init__(self, space: Space, study: optuna.Study, gpus: int) -> None:
        self.space = space
        self.study = study
        self.gpus = gpus
        self.stopped = threading.Event()
        self.refused: str | None = None
        """Why `train` would not begin: no other trial would fare better."""
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen] = set()
        self._waiting = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.RUNNING]
        self._left = space.trials - len(study.get_trials(deepcopy=False)) + len(self._waiting)

    def run(self, jobs: int) -> None:
        """All trials that are left; the first Ctrl-C stops them between two steps."""
        print(f"sweep {self.space.name}: {max(self._left, 0)} of {self.space.trials} trials to go, to {self.space.direction} "
              f"{self.space.metric} over {', '.join(self.space.options)}", flush=True)  # fmt: skip
        with ThreadPoolExecutor(jobs) as pool:
            workers = [pool.submit(self._work, number) for number in range(jobs)]
            try:
                for worker in workers:
                    worker.result()
            except KeyboardInterrupt:
                print("\nstopping: each training saves its state; the same command goes on with them", flush=True)
                self._stop()
        if self.refused is not None:
            raise InputError(self.refused)

    def _stop(self) -> None:
        self.stopped.set()
        with self._lock:
            for child in self._children:
                child.send_signal(signal.SIGINT)

    def _work(self, worker: int) -> None:
        while not self.stopped.is_set():
            with self._lock:
                if self._left <= 0:
                    return
                self._left -= 1
                again = self._waiting.pop() if self._waiting else None
                trial = Trial(self.study, again._trial_id) if again else self.study.ask(self.space.options)
            self._train(trial, worker)

    def _train(self, trial: Trial, worker: int) -> None:
        """One trial from its start, or from where its run stopped, to its end."""
        stem = f"{self.space.name}-{trial.number:04d}"
        known = newest(Path(self.space.base.output.output_dir), stem)
        with tempfile.TemporaryFile() as said, self._process(self._command(trial, stem, known), worker, said) as child:
            pruned = self._watch(child, trial, stem)
            if self.stopped.is_set() and not pruned and child.returncode not in (FINISHED, COLLAPSED):
                return  # stays as it is, to be gone on with
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        self._tell(trial, newest(Path(self.space.base.output.output_dir), stem), child.returncode, pruned, last)

    def _command(self, trial: Trial, stem: str, known: RunLayout | None) -> list[str]:
        base = [sys.executable, "-m", "backend", "train"]
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
    def _process(self, command: list[str], worker: int, said: Any) -> Iterator[subprocess.Popen]:
        """A training in a session of its own: Ctrl-C reaches it once, from here."""
        environment = {name: value for name, value in os.environ.items() if name != HELPER_OF}
        if self.gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(worker % self.gpus)
        with self._lock:
            child = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
            self._children.add(child)
        try:
            yield child
        finally:
            child.wait()
            with self._lock:
                self._children.discard(child)

    def _watch(self, child: subprocess.Popen, trial: Trial, stem: str) -> bool:
        """Wait for the end of a training; whether it was pruned before."""
        tail: JsonlTail | None = None
        pruned = False
        while child.poll() is None:
            try:
                child.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                run = newest(Path(self.space.base.output.output_dir), stem)
                if run is None:
                    continue
                tag(run, self.space.name)
                tail = tail or JsonlTail(run.evaluations)
                if not pruned and self._falls_behind(trial, tail):
                    pruned = True
                    child.send_signal(signal.SIGINT)
        return pruned

    def _falls_behind(self, trial: Trial, tail: JsonlTail) -> bool:
        for row in tail.read():
            value = row.get(self.space.metric)
            if row.get("kind") == "validation" and isinstance(value, int | float):
                trial.report(float(value), row["step"])
        return trial.should_prune()

    def _tell(self, trial: Trial, run: RunLayout | None, status: int, pruned: bool, last: list[str]) -> None:
        """The end of a trial, in the journal and in one line."""
        value = score(run, self.space.metric) if run is not None and status == FINISHED else None
        collapsed = status == COLLAPSED or (run is not None and ends_collapsed(run))
        if run is not None:
            tag(run, self.space.name)
            trial.set_user_attr("run", run.root.name)
        with self._lock:
            if collapsed or pruned:
                self.study.tell(trial, state=TrialState.PRUNED)
                self._say(trial, run, "its posterior collapsed: pruned" if collapsed else "fell behind: pruned")
            elif value is not None:
                self.study.tell(trial, value)
                self._say(trial, run, f"{self.space.metric} {value:.4g}")
            else:
                self.study.tell(trial, state=TrialState.FAIL)
                why = f"no {self.space.metric}" if status == FINISHED else f"failed: {' / '.join(last)}"
                self._say(trial, run, why)
                if status == BAD_INPUT and run is None:
                    self.refused = " ".join(last).removeprefix("error: ")
                    self._left = 0

    def _say(self, trial: Trial, run: RunLayout | None, what: str) -> None:
        chosen = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                           for name, value in trial.params.items())  # fmt: skip
        best = best_of(self.study)
        so_far = f"; best so far {best.value:.4g} (trial {best.number})" if best is not None else ""
        where = f", {run.root}" if run is not None else ""
        print(f"trial {trial.number} of {self.space.trials}: {what} ({chosen}){where}{so_far}", flush=True)


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """The best trial that came to its end."""
    return study.best_trial if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else None


def newest(folder: Path, stem: str) -> RunLayout | None:
    """The run of a trial, once it is there."""
    found = sorted(path for path in folder.glob(f"{stem}-*") if RunLayout(path).run_json.exists())
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
