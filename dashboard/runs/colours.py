"""The colour of a run: the same on every page, in every session and after a restart.

Eight colours that colour-blind readers tell apart (Okabe and Ito, without their yellow), times four dashes.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
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

    Where the folder cannot be written, styles last as long as the process.
    """

    def __init__(self, runs: Path) -> None:
        self._path = runs / FOLDER / FILE
        self._lock = threading.Lock()
        self._slots: dict[str, int] | None = None

    def of(self, name: str) -> RunStyle:
        """The style of one run."""
        return self.all([name])[name]

    def all(self, names: Iterable[str]) -> dict[str, RunStyle]:
        """The styles of several runs; the file is written once at most."""
        wanted = list(names)
        with self._lock:
            if self._slots is None:
                self._slots = self._read()
            new = [name for name in dict.fromkeys(wanted) if name not in self._slots]
            used = Counter(self._slots.values())
            for name in new:
                slot = min(range(SLOTS), key=lambda at: (used[at], at))
                self._slots[name] = slot
                used[slot] += 1
            if new:
                self._write(self._slots)
            return {name: RunStyle(self._slots[name]) for name in wanted}

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

    def _write(self, slots: dict[str, int]) -> None:
        try:
            self._path.parent.mkdir(exist_ok=True)
            replace_atomically(self._path, orjson.dumps(slots, option=orjson.OPT_INDENT_2))
        except OSError as error:
            log.warning("%s cannot be written (%s): colours of runs last until the dashboard stops", self._path, error.strerror)
