"""Many trainings, each with other options, chosen by what the earlier ones have shown.

    python -m backend sweep beta.toml --jobs 2

where beta.toml holds options of `train`, for all trials, and a table of what to try:

    data_dir = "prepared/mine"
    max_epochs = 20

    [sweep]
    metric = "auroc"                  # of the whole validation split: auroc, auprc, accuracy, elbo, loss, recon, prediction
    trials = 30                       # default: 20; of lists alone each combination once, at most, in random order
    pruner = "median"                 # ends trials that fall behind the others; default: "none", all come to their end
    "loss.beta_max" = {low = 0.01, high = 1.0, log = true}
    "model.latent_dim" = [32, 64, 128]

(The loss is weighted by beta and the weights of its terms: where those are tried, auroc or elbo compares, and loss does not.)

Every trial is a run like any other, in --output_dir, tagged with the sweep's name: the Compare page shows them with the filter
`tag:beta`. A trial whose posterior collapses is stopped and counts as pruned. Ctrl-C stops the trainings between two steps, once
more at once; the same command goes on with them, also after a crash, and a larger `trials` with more of them.

Exit status: 0 when all trials have ended and one has a score, 1 when none has, 2 for bad input, 130 when it was interrupted.

On Optuna, and not Ray Tune: it lives in this process and keeps its trials in a journal, one file beside the runs, with no cluster
or daemon to run; trials stay processes of `train`, which can be pruned while they train; and it installs without a service.
"""

import argparse
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from backend.folders import interrupted_by_terminate
from backend.options import existing
from backend.sweep_board import Board
from backend.sweep_runs import (
    BAD_INPUT,
    COLLAPSED,
    FINISHED,
    INTERRUPTED,
    Ended,
    Trainings,
    ends_collapsed,
    last_error,
    score,
)
from backend.sweep_space import Space, read_space
from backend.sweep_study import BEHIND, COLLAPSE, alone, open_study, trials_left
from shared.config import TrainConfig
from shared.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("config", type=Path, help="TOML file: options of `train` and a [sweep] table, as above")
    parser.add_argument(
        "--jobs", type=int, metavar="N",
        help="trials at a time; each has the GPU to itself (--devices of them) as far as there are enough [as many as GPUs allow, else 1]",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; see above for its exit status.

    Raises:
        InputError: a bad file or option, a sweep of that name with other aims, or one that runs already.
    """
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: at least 1; leave it out for one per GPU")
    space = read_space(existing(args.config, "sweep file (`python -m backend sweep --help` shows one)"))
    places = gpu_places(space.base)
    jobs = args.jobs or max(len(places), 1)
    with alone(space), interrupted_by_terminate():
        sweep = Sweep(space, open_study(space, jobs), Trainings(space, places, jobs))
        sweep.run(jobs)
        sweep.board.table(sweep.study)
    if sweep.stopped.is_set():
        print(f"stopped; go on with\n  python -m backend sweep {args.config}" + (f" --jobs {args.jobs}" if args.jobs else ""))
        return INTERRUPTED
    return 0 if sweep.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else 1


def gpu_places(base: TrainConfig) -> list[str]:
    """GPUs for one trial each, as CUDA_VISIBLE_DEVICES has to name them; none on a CPU."""
    if base.trainer.accelerator == "cpu":
        return []
    import torch

    there = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(there)]
    size = base.trainer.devices
    return [",".join(names[first : first + size]) for first in range(0, there - size + 1, size)]


class Sweep:
    """The trials of one study, several at a time."""

    def __init__(self, space: Space, study: optuna.Study, trainings: Trainings) -> None:
        self.space = space
        self.study = study
        self.trainings = trainings
        self.board = Board(space)
        self.stopped = threading.Event()
        self.refused: str | None = None
        """Why `train` would not begin: no other trial would fare better."""
        self._lock = threading.Lock()
        trials = study.get_trials(deepcopy=False)
        self._waiting = [trial for trial in reversed(trials) if trial.state is TrialState.RUNNING]
        self._left = trials_left(space, trials)

    def run(self, jobs: int) -> None:
        """All trials that are left; the first Ctrl-C stops them between two steps, the second at once."""
        self.board.head(self._left, jobs, self.trainings.places)
        with ThreadPoolExecutor(jobs) as pool, self.board, ExitStack() as broken_off:
            broken_off.callback(self._stop)  # the pool waits for its workers on the way out: none may begin another trial
            workers = [pool.submit(self._work, number) for number in range(jobs)]
            self._see_through(workers)
            broken_off.pop_all()
        for worker in workers:
            worker.result()
        if self.refused is not None:
            raise InputError(self.refused)

    def _see_through(self, workers: "list[Future[None]]") -> None:
        """Until all have ended, whatever Ctrl-C asks of them on the way."""
        while True:
            try:
                self._wait(workers)
                return
            except KeyboardInterrupt:
                first = not self.stopped.is_set()
                self._stop()
                self.board.say("stopping: each training finishes its step and saves; once more to stop at once" if first
                               else "stopping at once")  # fmt: skip

    def _wait(self, workers: "list[Future[None]]") -> None:
        """For all; a fault in one stops the others too."""
        if wait(workers, return_when=FIRST_EXCEPTION).not_done:
            self._stop()
            wait(workers)

    def _stop(self) -> None:
        self.stopped.set()
        self.trainings.stop()

    def _work(self, worker: int) -> None:
        while not self.stopped.is_set():
            with self._lock:
                if self._left <= 0:
                    return
                self._left -= 1
                begun = self._waiting.pop() if self._waiting else None
                trial = self._taken_up(begun) if begun else self.study.ask(self.space.options)
            try:
                self.space.config(trial.params)
            except InputError as error:  # options that do not go together, such as a width and a number of heads
                self._tell(trial, TrialState.FAIL, f"refused: {error}")
                continue
            self.board.begin(trial.number, trial.params, again=begun is not None)
            again = begun is not None
            self._judge(trial, self.trainings.train(trial, worker, again=again, looked=self.board.look), again=again)

    def _taken_up(self, begun: FrozenTrial) -> Trial:
        """A trial of an earlier session, with the options it has; those it was killed too early to have are drawn now."""
        trial = Trial(self.study, begun._trial_id)
        for name, of in self.space.options.items():
            trial._suggest(name, of)
        return trial

    def _judge(self, trial: Trial, ended: Ended, *, again: bool) -> None:
        """What the end of a training means for its trial; one that could not be taken up `again` may be later."""
        run, metric = ended.run, self.space.metric
        value = score(run, metric) if run is not None and ended.status == FINISHED else None
        if ended.status == COLLAPSED or (ended.status == FINISHED and run is not None and ends_collapsed(run)):
            self._tell(trial, TrialState.PRUNED, COLLAPSE)
        elif value is not None:
            self._tell(trial, TrialState.COMPLETE, None, value)
        elif ended.pruned:
            self._tell(trial, TrialState.PRUNED, BEHIND)
        elif self.stopped.is_set() and ended.status != FINISHED:
            self.board.end(trial.number, "stopped; the same command goes on with it")
        elif ended.status == BAD_INPUT and (run is None or again):
            with self._lock:
                self.refused, self._left = last_error(ended.said), 0
            self.board.end(trial.number, "not begun")
        else:
            why = f"no {metric} in its last validation" if ended.status == FINISHED else last_error(ended.said)
            self._tell(trial, TrialState.FAIL, f"failed: {why}")

    def _tell(self, trial: Trial, state: TrialState, why: str | None, value: float | None = None) -> None:
        """The end of a trial, in the journal and in one line."""
        if why is not None:
            trial.set_user_attr("end", why)
        with self._lock:
            self.study.tell(trial, value, state=state)
            self.board.told(self.study, trial.number)
