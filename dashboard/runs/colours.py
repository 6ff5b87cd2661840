"""The colour of a run: the same on every page, in every session and after a restart.

Eight colours that colour-blind readers tell apart (Okabe and Ito, without their yellow), times four dashes.
"""

import fcntl
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.writer import replace_atomically

PALETTE: dict[bool, tuple[str, ...]] = {
    False: ("#0072B2", "#D55E00", "#009E73", "#B0307A", "#2E9BD6", "#B8860B", "#5B5B66", "#7A52C7"),
    True: ("#56A3DB", "#F28E4B", "#2CC295", "#E58FC0", "#8FD3FF", "#E6B94A", "#B9BCC6", "#B79CF2"),
}
DASHES = ("solid", "dash", "dot", "dashdot")
SLOTS = len(PALETTE[False]) * len(DASHES)
FOLDER, FILE = ".dashboard", "colours.json"
KEPT_GONE = 2000
"""Runs that are not in the folder, whose styles are kept: one may be slow to appear, or come back."""

log = logging.getLogger("dashboard")


@dataclass(frozen=True)
class RunStyle:
    """How one run is drawn."""

    slot: int

    def colour(self, dark: bool) -> str:
        """CSS colour in the light or the dark theme."""
        return PALETTE[dark][self.slot % len(PALETTE[dark])]

    @property
    def dash(self) -> str:
        """Plotly's name of the dash."""
        return DASHES[self.slot // len(PALETTE[False]) % len(DASHES)]


class Colours:
    """Gives each run the least used style when it is first drawn, and keeps that in the runs folder. For any thread.

    Several dashboards may serve one folder: what one of them gave, the others take. Where the folder cannot be written, styles
    last as long as the process.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._path = runs / FOLDER / FILE
        self._lock = threading.Lock()
        self._slots: dict[str, int] = {}

    def of(self, name: str) -> RunStyle:
        """The style of one run."""
        return self.all([name])[name]

    def all(self, names: Iterable[str]) -> dict[str, RunStyle]:
        """The styles of several runs; the file is read and written once at most, and only for names that are new here."""
        wanted = dict.fromkeys(names)
        with self._lock:
            if any(name not in self._slots for name in wanted):
                try:
                    with self._alone():
                        self._give(wanted)
                        replace_atomically(self._path, orjson.dumps(self._slots, option=orjson.OPT_INDENT_2))
                except OSError as error:
                    self._give(wanted)
                    why = f"{self._path} cannot be written ({error.strerror})"
                    log.warning("%s: colours of runs last until the dashboard stops", why)
            return {name: RunStyle(self._slots[name]) for name in wanted}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, over all dashboards."""
        self._path.parent.mkdir(exist_ok=True)
        with self._path.with_suffix(".lock").open("a") as file:
            with suppress(OSError):  # some network disks have no locks: there, what two give at the same instant may differ
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _give(self, wanted: Mapping[str, None]) -> None:
        """Take what the file has, be it given by others, and give the rest of `wanted` a style."""
        saved = self._read()
        slots = {name: slot for name, slot in self._slots.items() if name not in saved} | saved
        used = Counter(slots.values())
        for name in wanted:
            if name not in slots:
                slots[name] = min(range(SLOTS), key=lambda at: (used[at], at))
                used[slots[name]] += 1
        for name in self._forgotten(slots, wanted):
            del slots[name]
        self._slots = slots

    def _forgotten(self, slots: Mapping[str, int], wanted: Mapping[str, None]) -> list[str]:
        """Runs that went so many runs ago that none of them will come back; none where the folder does not show its runs."""
        if len(slots) <= KEPT_GONE:
            return []
        try:
            here = set(os.listdir(self._runs))  # noqa: PTH208
        except OSError:
            return []
        gone = [name for name in slots if name not in here and name not in wanted]
        return gone[:-KEPT_GONE]

    def _read(self) -> dict[str, int]:
        try:
            found = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            log.warning("%s cannot be read (%s): colours of runs start anew", self._path, error)
            return {}
        known = found.items() if isinstance(found, dict) else ()
        return {name: slot for name, slot in known if type(slot) is int and 0 <= slot < SLOTS}
