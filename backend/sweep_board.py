"""What a sweep shows: a line for each trial that begins or ends, those that train on a terminal, and a table at the end."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from backend.sweep_space import Space
from backend.sweep_study import best_of, trials_of
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import Heartbeat

LINE_EVERY_S = 60.0
"""Between lines on a trial that trains, where there is no terminal."""
WIDTH = 160
"""Of the table, where there is no terminal."""
WORDS = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "stopped",
    TrialState.WAITING: "to come",
}


@dataclass
class Seen:
    """A trial that trains."""

    options: str
    told: float
    """When a line was last written about it."""
    state: str = "starting"


class Board:
    """Lines of a sweep, told from its threads. A context: what trains is shown inside it, where there is a terminal."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.count = trials_of(space)
        self._console = Console(soft_wrap=True)
        self._training: dict[int, Seen] = {}
        self._best = ""
        self._live = Live(console=self._console, get_renderable=self._shown, refresh_per_second=2, transient=True)

    def __enter__(self) -> "Board":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line, above what is live."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def head(self, left: int, jobs: int, places: Sequence[str]) -> None:
        """What is about to be done."""
        where = f", each on GPU {' or '.join(places)}" if places else ""
        self.say(
            f"sweep {self.space.name}: {left} of {self.count} trials to go, {jobs} at a time{where}, to {self.space.direction} "
            f"{self.space.metric} over {', '.join(self.space.options)}"
        )

    def begin(self, number: int, chosen: Mapping[str, Any], *, again: bool) -> None:
        """A training is started."""
        self._training[number] = Seen(shown(chosen), time.monotonic())
        self.say(f"trial {number} {'goes on' if again else 'begins'}: {shown(chosen)}")

    def look(self, number: int, run: RunLayout, value: float | None) -> None:
        """How far it is."""
        seen = self._training[number]
        try:
            beat = read_record(run.heartbeat, Heartbeat)
        except InputError:  # not written yet
            return
        metric = f", {self.space.metric} {value:.4g}" if value is not None else ""
        seen.state = f"{beat.phase}, step {beat.step:,} of {beat.max_steps or 0:,}{metric}"
        if not self._console.is_terminal and time.monotonic() - seen.told > LINE_EVERY_S:
            seen.told = time.monotonic()
            self.say(f"trial {number}: {seen.state}{self._best}")

    def end(self, number: int, what: str, run: str | None = None) -> None:
        """It has ended, for now or for good."""
        seen = self._training.pop(number, None)
        where = f", {Path(self.space.base.output.output_dir) / run}" if run is not None else ""
        options = f" ({seen.options})" if seen is not None else ""
        self.say(f"trial {number}: {what}{options}{where}{self._best}")

    def told(self, study: optuna.Study, number: int) -> None:
        """The journal has it."""
        trial, best = study.get_trials(deepcopy=False)[number], best_of(study)
        self._best = f"; best so far {best.value:.4g} (trial {best.number})" if best is not None else ""
        value = f", {self.space.metric} {trial.value:.4g}" if trial.state is TrialState.COMPLETE else ""
        self.end(number, f"{state_of(trial)}{value}", trial.user_attrs.get("run"))

    def _shown(self) -> Group:
        """The trials that train, and the best so far."""
        lines = [f"  trial {number}: {seen.state} ({seen.options})" for number, seen in sorted(self._training.items())]
        return Group(
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in [*lines, "  " + self._best.removeprefix("; ")])
        )

    def table(self, study: optuna.Study) -> None:
        """All trials, the best first."""
        trials = [trial for trial in study.get_trials(deepcopy=False) if trial.params]
        if not trials:
            return
        table = Table(title=Text(f"sweep {self.space.name}"), title_justify="left")
        for name in ("trial", "state", self.space.metric, *self.space.options, "run"):
            table.add_column(Text(name), overflow="fold")
        sign = -1 if self.space.direction == "maximize" else 1
        for trial in sorted(trials, key=lambda t: (t.state is not TrialState.COMPLETE, sign * (t.value or 0.0), t.number)):
            value = f"{trial.value:.4g}" if trial.state is TrialState.COMPLETE else ""
            chosen = [_number(trial.params.get(name, "")) for name in self.space.options]
            run = trial.user_attrs.get("run", "")
            table.add_row(*map(Text, (str(trial.number), state_of(trial), value, *chosen, run)))
        console = self._console if self._console.is_terminal else Console(width=WIDTH)
        console.print(table)
        best = best_of(study)
        if best is not None:
            run = Path(self.space.base.output.output_dir) / best.user_attrs["run"]
            self.say(f"best: trial {best.number}, {self.space.metric} {best.value:.4g}. On stays that had no part in the choice:\n"
                     f"  python -m backend evaluate {run / 'checkpoints' / 'last.ckpt'} --split test")  # fmt: skip


def state_of(trial: FrozenTrial) -> str:
    """What became of a trial, in words."""
    why = trial.user_attrs.get("end", "")
    if trial.state is TrialState.FAIL:
        return str(why)
    return WORDS[trial.state] + (f": {why}" if why else "")


def shown(chosen: Mapping[str, Any]) -> str:
    """The options of a trial."""
    return ", ".join(f"{name} {_number(value)}" for name, value in chosen.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
