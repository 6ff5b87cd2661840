"""The rows of the list of runs as the browser gets them: all at first, later only those that changed.

`GET /runs.json?since=TOKEN` answers `{"token", "whole", "unread", "rows", "gone"}` and, where `whole`, what all rows share. The
page asks whenever the stream of the list says that something is new. Every text is data here and is shown as text there.
"""

import asyncio
import gzip
import time
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.formats import DASH, count, duration, moment
from dashboard.overview.summaries import RunSummary, Summaries
from dashboard.runs.colours import DASHES, PALETTE, Colours, RunStyle
from dashboard.widgets import BADGES, SIGNS
from shared.config import TrainConfig

PATH = "/runs.json"
MIN_COMPRESSED = 20_000


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`group.option` to value, groups of any depth."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


DEFAULTS: dict[str, Any] = flat(orjson.loads(orjson.dumps(TrainConfig().model_dump())))
"""Rows say only where a run's options differ from these: most of 2,000 configurations are the same."""
_MISSING = object()


def row(summary: RunSummary, style: RunStyle) -> dict[str, Any]:
    """All that the list may show, sort, filter and group by; times in seconds since 1970, texts as people read them."""
    status, info, verdict = summary.status, summary.status.info, summary.concern if summary.complete else None
    data = info.dataset if info else None
    planned, folder = summary.max_steps, f"{status.layout.root}/"
    reason = status.reason.replace(folder, "") if status.reason else None
    return {
        "name": summary.name, "slot": style.slot, "state": status.health.value, "reason": reason, "complete": summary.complete,
        "verdict": verdict and {"severity": verdict.severity, "kind": verdict.kind, "title": verdict.title, "detail": verdict.detail},
        "step": summary.step, "planned": planned, "auroc": summary.best_auroc, "auroc_on": summary.auroc_on,
        "units": summary.active_units, "dims": summary.latent_dims,
        "started": info.created_at.timestamp() if info else None, "duration": summary.duration_s,
        "device": info.device if info and info.device != "unknown" else None,
        "data": data.name if data else None, "simulated": bool(data and data.simulated),
        "tags": summary.notes.tags, "note": summary.notes.note, "archived": summary.notes.archived,
        "text": {
            "progress": count(summary.step) + (f" of {planned:,}" if planned else ""), "units": _units(summary),
            "auroc": DASH if summary.best_auroc is None else f"{summary.best_auroc:.3f}",
            "started": moment(info.created_at) if info else DASH, "duration": duration(summary.duration_s),
        },
        **_options(info.config if info else {}),
    }  # fmt: skip


def _units(summary: RunSummary) -> str:
    if summary.active_units is None:
        return DASH
    return count(summary.active_units) + (f" of {count(summary.latent_dims)}" if summary.latent_dims else "")


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where a configuration differs from the defaults, and which of them it lacks; whole where it has hardly any of them."""
    options = flat(config)
    lacks = [name for name in DEFAULTS if name not in options]
    if len(lacks) > len(DEFAULTS) / 2:
        return {"config": options, "like": False}
    changed = {name: value for name, value in options.items() if DEFAULTS.get(name, _MISSING) != value}
    return {"config": changed, "like": True, **({"lacks": lacks} if lacks else {})}


SHARED: dict[str, Any] = {
    "defaults": DEFAULTS,
    "badges": {health.value: {"sign": sign, "word": word} for health, (sign, word) in BADGES.items()},
    "signs": SIGNS,
    "palette": {"light": PALETTE[False], "dark": PALETTE[True]},
    "dashes": DASHES,
}


class Rows:
    """Encodes rows; the encoding of a run is kept until the run changes."""

    def __init__(self, summaries: Summaries, colours: Colours) -> None:
        self._summaries = summaries
        self._colours = colours
        self._start = f"{time.time_ns():x}"
        self._encoded: dict[str, tuple[RunSummary, orjson.Fragment]] = {}

    def since(self, token: str) -> bytes:
        """What changed after `token`, which an earlier answer gave; everything for any other text."""
        start, _, serial = token.partition("-")
        known = int(serial) if start == self._start and serial.isdecimal() else 0
        changes = self._summaries.since(known)
        styles = self._colours.all(run.name for run in changes.runs)
        for name in changes.gone:
            self._encoded.pop(name, None)
        answer: dict[str, Any] = {
            "token": f"{self._start}-{changes.serial}", "whole": known == 0, "unread": changes.unread,
            "gone": changes.gone if known else [], "rows": [self._encode(run, styles[run.name]) for run in changes.runs],
        }  # fmt: skip
        return orjson.dumps(answer if known else answer | SHARED)

    def _encode(self, run: RunSummary, style: RunStyle) -> orjson.Fragment:
        kept = self._encoded.get(run.name)
        if kept is None or kept[0] is not run:
            kept = (run, orjson.Fragment(orjson.dumps(row(run, style), option=orjson.OPT_NON_STR_KEYS, default=str)))
            self._encoded[run.name] = kept
        return kept[1]

    def route(self) -> Route:
        """`GET /runs.json`."""

        async def send(request: Request) -> Response:
            body = await asyncio.to_thread(self.since, request.query_params.get("since", ""))
            headers = {"Cache-Control": "no-store"}
            if len(body) > MIN_COMPRESSED and "gzip" in request.headers.get("accept-encoding", ""):
                body = await asyncio.to_thread(gzip.compress, body, 1)
                headers["Content-Encoding"] = "gzip"
            return Response(body, media_type="application/json", headers=headers)

        return Route(PATH, send, methods=["GET"])
