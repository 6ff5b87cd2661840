"""Runs that grow with the TensorBoard logs they are imported from."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from backend.tensorboard_run import Line, LogImport
from shared.errors import InputError
from shared.schema import RunState
from shared.writer import JsonlWriter

EVERY_S = 3.0
"""Between two looks."""
JUDGED_AGAIN = 0.02
"""Share by which a log has to grow before all of it is judged again."""


class Follower:
    """Appends what is new to a run. The newest step is held back until a later one begins: more of it may be still to come."""

    def __init__(self, made: LogImport) -> None:
        self.made = made
        self._begin()

    def _begin(self) -> None:
        self._next = self._judged = self.made.reader.log.last_step
        """The step held back, and the one at which the log was judged last."""
        self._files = len(self.made.reader.files())

    def look(self) -> None:
        """Take in what has been logged since, and give a sign of life.

        Raises:
            InputError: the log or the run folder is gone.
        """
        made = self.made
        fresh = made.reader.read()
        try:
            if fresh and (len(made.reader.files()) != self._files or made.reader.log.last_step < self._next):
                made.write(RunState.RUNNING)  # a resumed training takes the place of steps that are written already
                self._begin()
            elif fresh:
                self._append()
            made.write_beat(RunState.RUNNING)
        except OSError as error:
            raise InputError(f"{made.layout.root}: cannot be written ({error.strerror})") from error

    def _append(self) -> None:
        made, last = self.made, self.made.reader.log.last_step
        append(made.layout.metrics, made.step_lines(self._next - 1, last))
        append(made.layout.evaluations, made.evaluation_lines(self._next - 1, last))
        self._next = last
        if last > self._judged * (1 + JUDGED_AGAIN):
            self._judged = last
            events = JsonlWriter(made.layout.events)
            for event in made.judge_again():
                events.write_record(event)
            events.close()

    def close(self) -> None:
        """The log is not followed any more: all of it is written once more, whole. Raises InputError."""
        self.made.reader.read()
        self.made.reader.check()
        try:
            self.made.write(RunState.FINISHED)
        except OSError as error:
            raise InputError(f"{self.made.layout.root}: cannot be written ({error.strerror})") from error


def append(path: Path, lines: Iterable[Line]) -> None:
    """Add whole lines to a log."""
    writer = JsonlWriter(path)
    for _, line in lines:
        writer.write_bytes(line)
    writer.close()


def follow(imports: list[LogImport], wait: Callable[[float], None] = time.sleep) -> None:
    """Take in what is logged, every few seconds, until Ctrl-C; then the runs are finished.

    Raises:
        InputError: a log cannot be read any more, or a run folder not written.
    """
    followers = [Follower(made) for made in imports]
    print(f"following {len(followers)} log(s); Ctrl-C ends it", flush=True)
    try:
        while True:
            wait(EVERY_S)
            for follower in followers:
                follower.look()
    except KeyboardInterrupt:
        print()
    finally:
        for follower in followers:
            follower.close()
