"""Resolution that follows the zoom: the part of a run's curves that a reader looks at, thinned to that part alone.

`GET /series?run=NAME&metric=ROLE:METRIC&axis=step&smooth=0&from=A&to=B`, the metric as often as there are curves in the chart;
the answer is one `{"x": [...], "y": [...]}` each, NaN as null. What a long run keeps in memory is too coarse for a narrow part:
its lines are found in the log by bisection and read again.
"""

import asyncio
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.live.axes import AxisKind, axis_of
from dashboard.runs.curves import Curves, SeriesView
from dashboard.runs.snapshot import Snapshot
from shared.decimate import POINTS, decimate, smooth
from shared.drawing import Role
from shared.lines import between
from shared.reader import columns_of
from shared.series import Series

PATH = "/series"
MOST_BYTES = 96 << 20
"""Of the log that one request reads: about 200,000 steps of 20 metrics. Of a longer part what memory holds is shown, all of it."""
KEPT_PARTS, KEPT_BYTES = 24, 128 << 20
SMOOTH_BEFORE = 6
"""A smoothed curve begins so many time constants before the part that is shown."""


@dataclass(frozen=True)
class Part:
    """Part of a run: steps from `low` to `high`."""

    low: float
    high: float


class _Kept:
    """The curves of one part, None before they were read or where they are too many bytes; the lock is for whoever reads them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = False
        self.curves: Mapping[str, SeriesView] | None = None
        self.bytes = 0


class Windows:
    """Reads parts of long logs. The last few are kept, for all charts of a page ask for the same part."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def series(self, snapshot: Snapshot, role: Role, metric: str, part: Part, span: float = 0.0) -> Series:
        """Steps and values of one curve in that part, all of them or thinned to what a picture shows.

        `span` > 0: smoothed with this time constant in steps. Raises OSError when the log cannot be read.
        """
        first = part.low - SMOOTH_BEFORE * span
        if role != "training":
            x, y = snapshot.series(role, metric)
        else:
            found = self._training(snapshot, metric, Part(first, part.high))
            if found is None:
                return np.empty(0), np.empty(0)
            x, y = found.means if span and found.width else (found.x, found.y)
        keep = _framed(x, first if span else part.low, part.high)
        x, y = x[keep], y[keep]
        if span:
            y = smooth(x, y, span)
            keep = _framed(x, part.low, part.high)
            x, y = x[keep], y[keep]
        return decimate(x, y)

    def _training(self, snapshot: Snapshot, metric: str, part: Part) -> SeriesView | None:
        """The curve as memory has it where that is fine enough, else that part of it read again; None where it has no value."""
        found = snapshot.training.get(metric)
        fine = found is None or not found.width or (part.high - part.low) >= found.width * POINTS / 2
        if fine and snapshot.reading is None:
            return found
        read = self._read(snapshot, part)
        return found if read is None else read.get(metric)

    def _read(self, snapshot: Snapshot, part: Part) -> Mapping[str, SeriesView] | None:
        """All curves of a part from the log; None where it is too long to be read at once."""
        margin = 2 + 0.01 * (part.high - part.low)
        low, high = math.floor(part.low - margin), math.ceil(part.high + margin)
        key = (snapshot.status.name, snapshot.generation, low, min(high, snapshot.last_step or 0))
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
        with kept.lock:
            if not kept.done:
                lines = between(snapshot.status.layout.metrics, low, high, MOST_BYTES)
                if lines is not None:
                    curves = Curves()
                    curves.extend(columns_of(lines))
                    kept.curves, kept.bytes = curves.views(), curves.bytes
                kept.done = True
        with self._lock:
            while len(self._kept) > 1 and (len(self._kept) > KEPT_PARTS or self.bytes > KEPT_BYTES):
                self._kept.popitem(last=False)
        return kept.curves

    @property
    def bytes(self) -> int:
        """Memory that the values kept take."""
        return sum(kept.bytes for kept in self._kept.values())


def _framed(x: np.ndarray, low: float, high: float) -> slice:
    """The points from `low` to `high`, and one more on either side, so that lines run on to the edge."""
    return slice(max(int(np.searchsorted(x, low, "left")) - 1, 0), int(np.searchsorted(x, high, "right")) + 1)


def answer(windows: Windows, snapshot: Snapshot, metrics: Sequence[str], kind: AxisKind, span: float, part: Part) -> bytes:
    """The curves as JSON, along the axis asked for; `part` is in its units."""
    axis = axis_of(snapshot, kind)
    low, high = axis.steps_at(np.array([part.low, part.high]))
    found = []
    for name in metrics:
        role, _, rest = name.partition(":")
        metric, _, smoothed = rest.partition(":")
        x, y = windows.series(snapshot, role, metric, Part(float(low), float(high)), span if smoothed else 0.0)  # type: ignore[arg-type]
        found.append({"x": axis.at(x), "y": y})
    return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)


def route(snapshot_of: Callable[[str], Snapshot | None], windows: Windows) -> Route:
    """The route above. 400 for a request that makes no sense, 404 for a run that is not there."""

    async def send(request: Request) -> Response:
        asked = request.query_params
        metrics = asked.getlist("metric")
        kind = asked.get("axis", "step")
        try:
            low, high, span = (float(asked[name]) for name in ("from", "to", "smooth"))
        except (KeyError, ValueError):
            return Response("from, to and smooth have to be numbers", 400)
        sensible = all(map(math.isfinite, (low, high, span))) and low <= high and span >= 0
        known = all(name.partition(":")[0] in get_args(Role) for name in metrics)
        if not (sensible and known and 0 < len(metrics) <= 16 and kind in get_args(AxisKind)):
            return Response("metric=ROLE:NAME, axis=step|epoch|time, from <= to and smooth >= 0 are wanted", 400)
        snapshot = await asyncio.to_thread(snapshot_of, asked.get("run", ""))
        if snapshot is None:
            return Response("no such run", 404)
        try:
            body = await asyncio.to_thread(answer, windows, snapshot, metrics, kind, span, Part(low, high))  # type: ignore[arg-type]
        except OSError as error:
            return Response(f"the log cannot be read: {error.strerror}", 404)
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return Route(PATH, send, methods=["GET"])
