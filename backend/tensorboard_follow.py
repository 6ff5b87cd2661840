"""Runs that grow with the TensorBoard logs they are imported from."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from backend.tensorboard_places import places
from backend.tensorboard_run import Line, LogImport
from shared.errors import InputError
from shared.schema import RunState
from shared.writer import JsonlWriter

EVERY_S = 3.0
"""Between two looks."""
JUDGED_AGAIN = 0.02
"""Share by which a log has to grow before all of it is judged again."""


class Follower:
    """Appends what is new to a run. The newest step of each kind of row is held back until a later one begins."""

    def __init__(self, made: LogImport) -> None:
        self.made = made
        self._begin()

    def _begin(self) -> None:
        self._held, self._places = self.made.newest(), places(self.made.tags)
        """The step held back of each kind of row, and where the tags belong."""
        self._judged = self.made.reader.log.last_step
        for scalars in self.made.reader.log.scalars.values():
            scalars.lowest_new()

    def look(self) -> None:
        """Take in what has been logged since; if something has been, that is a sign of life.

        Raises:
            InputError: the log or the run folder is gone.
        """
        made = self.made
        if not made.reader.read():
            return
        try:
            if self._goes_back():
                made.write(RunState.RUNNING)
                self._begin()
            else:
                self._append()
                made.write_beat(RunState.RUNNING)
        except OSError as error:
            raise InputError(f"{made.layout.root}: cannot be written ({error.strerror})") from error

    def _goes_back(self) -> bool:
        """Whether what is new belongs among the rows that are written: of a resumed training, or of a tag that lags behind."""
        scalars, now = self.made.reader.log.scalars, places(self.made.tags)
        lowest = {tag: values.lowest_new() for tag, values in scalars.items()}
        behind = ((lowest[tag], self._held[role]) for (role, _), tag in now.items())
        moved = any(now.get(place) != tag for place, tag in self._places.items())
        self._places = now
        return moved or any(new is not None and new < held for new, held in behind)

    def _append(self) -> None:
        made, newest, last = self.made, self.made.newest(), self.made.reader.log.last_step
        afters = {role: held - 1 for role, held in self._held.items()}
        append(made.layout.metrics, made.step_lines(afters["training"], newest["training"]))
        append(made.layout.evaluations, made.evaluation_lines(afters, newest))
        self._held = newest
        if last > self._judged * (1 + JUDGED_AGAIN):
            self._judged = last
            events = JsonlWriter(made.layout.events)
            for event in made.judge_again():
                events.write_record(event)
            events.close()

    def close(self) -> None:
        """The log is not followed any more: all that was read of it is written once more, whole.

        Raises:
            InputError: the run folder cannot be written.
        """
        try:
            self.made.reader.read()
            self.made.reader.check()
        except InputError as error:
            self.made.reader.log.notes.append(f"{error}: the run ends with what was read before.")
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


def follow(imports: list[LogImport], wait: Callable[[float], None] = time.sleep) -> list[LogImport]:
    """Take in what is logged, every few seconds, until Ctrl-C; then the runs are finished. Returns those that are whole.

    A log that cannot be followed any more is named and its run finished; the others go on.

    Raises:
        InputError: none of them can be followed any more.
    """
    followers = [Follower(made) for made in imports]
    finished: list[LogImport] = []
    print(f"following {len(followers)} log(s); Ctrl-C ends it", flush=True)
    try:
        while followers:
            wait(EVERY_S)
            for follower in list(followers):
                try:
                    follower.look()
                except InputError as error:
                    followers.remove(follower)
                    print(f"not followed any more: {error}", file=sys.stderr, flush=True)
                    _close(follower)
    except KeyboardInterrupt:
        print()
    finally:
        finished = [follower.made for follower in followers if _close(follower)]
    if not finished:
        raise InputError("no log is left that can be followed; what was read of them stands in their runs")
    return finished


def _close(follower: Follower) -> bool:
    """Whether the run could be finished; that it could not is said."""
    try:
        follower.close()
    except InputError as error:
        print(f"not finished: {error}", file=sys.stderr, flush=True)
        return False
    return True
