"""Resolution that follows the zoom, of several runs at once: the part of one metric that a reader looks at.

`GET /compare-part?metric=probe.kl&x=onset&per=1&curve=SPAN:RUN&curve=SPAN:RUN&from=A&to=B`, `x` as in the page's address; `per` is what
places on the axis were divided by, seconds in a day, say. The answer is one `{"x": [...], "y": [...]}` for each curve, NaN as null;
null in place of the curve of a run that is gone or has no place on the axis: what was drawn of it stays.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlencode

import numpy as np
import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.compare.choice import READERS
from dashboard.compare.curves import Line, clock, elapsed, onset
from dashboard.compare.view import MOST_SMOOTHING, Alignment, Ref, View, parse_ref, ref_text
from dashboard.live.windows import Part, Windows
from dashboard.runs.snapshot import Snapshot

PATH = "/compare-part"
MOST_LINES = 10
"""Of more, the whole curves stay as they are: reading all their logs again would take longer than a reader waits."""


@dataclass(frozen=True)
class Asked:
    """What a request wants: curves (time constant of the smoothing in steps, run) of one metric from `low` to `high`."""

    ref: Ref
    x: Alignment
    per: float
    low: float
    high: float
    curves: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, params: QueryParams) -> "Asked | None":
        """None for a request that makes no sense."""
        ref, x = parse_ref(params.get("metric", "")), params.get("x")
        try:
            low, high, per = (float(params[name]) for name in ("from", "to", "per"))
            pairs = [curve.partition(":") for curve in params.getlist("curve")]
            curves = tuple((min(int(span), MOST_SMOOTHING), run) for span, _, run in pairs)
        except (KeyError, ValueError):
            return None
        sensible = (
            all(map(math.isfinite, (low, high, per))) and low <= high and per > 0 and all(span >= 0 for span, _ in curves)
        )
        if ref is None or x not in get_args(Alignment) or not sensible or not 0 < len(curves) <= 2 * MOST_LINES:
            return None
        return cls(ref, x, per, low, high, curves)  # type: ignore[arg-type]


def steps_at(snapshot: Snapshot, alignment: Alignment, places: Sequence[float]) -> np.ndarray:
    """The steps that stand at these places of the axis; beyond the known ones the first or the last of them."""
    if alignment == "step":
        return np.asarray(places, float)
    if alignment == "onset":
        return np.asarray(places, float) + (onset(snapshot) or 0)
    steps, known = snapshot.series("training", "epoch") if alignment == "epoch" else elapsed(snapshot)
    solid = np.isfinite(known)
    return np.interp(places, np.maximum.accumulate(known[solid]), steps[solid])


def part_of(windows: Windows, snapshot: Snapshot | None, asked: Asked, span: int) -> dict[str, np.ndarray] | None:
    """That part of one curve."""
    place = clock(snapshot, asked.x) if snapshot is not None else ""
    if snapshot is None or isinstance(place, str):
        return None
    low, high = steps_at(snapshot, asked.x, [asked.low * asked.per, asked.high * asked.per])
    x, y = windows.series(snapshot, *asked.ref, Part(float(low), float(high)), float(span))
    return {"x": place(x) / asked.per, "y": y}


def asking(ref: Ref, view: View, per: float, raw: Sequence[Line], bands: int, lines: Sequence[Line]) -> dict[str, Any]:
    """What a card tells the browser, for a chart with these traces in this order: where parts are asked for, and each curve's name.

    Nothing for more lines than can be asked at once. Means and bands of seeds stay as they are.
    """
    if not 0 < len(lines) <= MOST_LINES:
        return {}
    spans = [(0, line) for line in raw] + [(view.smooth, line) for line in lines]
    names = [f"{span}:{line.group.members[0].name}" if line.low is None else None for span, line in spans]
    query = urlencode({"metric": ref_text(ref), "x": view.x, "per": per})
    curves = [*names[: len(raw)], *[None] * bands, *names[len(raw) :]]
    return {"link": f"compare {ref_text(ref)} {view.key} {per}", "window": f"{PATH.lstrip('/')}?{query}", "curves": curves}


def part_route(snapshot_of: Callable[[str], Snapshot | None], windows: Windows) -> Route:
    """The route above. 400 for a request that makes no sense, 404 for a log that cannot be read."""

    def read(asked: Asked) -> bytes:
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(lambda curve: part_of(windows, snapshot_of(curve[1]), asked, curve[0]), asked.curves)
            return orjson.dumps(list(found), option=orjson.OPT_SERIALIZE_NUMPY)

    async def send(request: Request) -> Response:
        asked = Asked.of(request.query_params)
        if asked is None:
            axes = "|".join(get_args(Alignment))
            wanted = f"metric=ROLE.NAME, x={axes}, per > 0, curve=SPAN:RUN ({2 * MOST_LINES} at most) and from <= to are wanted"
            return Response(wanted, 400)
        try:
            body = await asyncio.to_thread(read, asked)
        except OSError as error:
            return Response(f"a log cannot be read: {error.strerror}", 404)
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return Route(PATH, send, methods=["GET"])
