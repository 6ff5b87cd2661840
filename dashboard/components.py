"""The two pieces of JavaScript on the pages: the listener that reruns its fragment, and the grid of charts.

Data goes to them in a list where a value of it is none of the plain ones: in a dict Streamlit looks at each for tables, and loads
pandas for that.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import plotly
import streamlit as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.document import FRONTEND, SMALL_PLOTLY_PATH, script
from dashboard.runs.watch import LIST, PATH

WHOLE_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PLOTLY = {"small": SMALL_PLOTLY_PATH, "whole": f"assets/plotly-{plotly.__version__}.min.js"}
"""Where the pages find both."""


@cache
def javascript(name: str) -> str:
    """A script of ours, read once."""
    return (FRONTEND / name).read_text(encoding="utf-8")


@cache
def styles() -> str:
    """All style sheets, read once: style.css holds what pages share; each page may have a sheet of its own."""
    return "".join(sheet.read_text(encoding="utf-8") for sheet in sorted(FRONTEND.glob("*.css")))


def plotly_route() -> Route:
    """Serve the whole plotly.js under an address that changes with its version."""

    def send(_request: Request) -> Response:
        return script(WHOLE_PLOTLY)

    return Route(f"/{PLOTLY['whole']}", send, methods=["GET"])


def listen(
    key: str, run: str | Sequence[str] = LIST, *, seen: int | str, watch: str = "revision", every_ms: int = 100,
    only_visible: bool = False, links: bool = False,
) -> str | None:  # fmt: skip
    """Mount the listener for `run`, for any of several runs, or for the list, in the fragment that calls this.

    The fragment reruns when `watch` ("revision" or "head") in the server's messages is no longer what it has `seen`.

    With `only_visible` the fragment is redrawn only while it is on the screen, or near it. Returns the name of the run whose
    link was clicked, when `links` is on.
    """
    component = st.components.v2.component("seqsetvae.push", js=javascript("push.js"))
    names = [run] if isinstance(run, str) else run
    asked = "&".join(f"run={quote(name, safe='')}" for name in names if name != LIST)
    url = PATH.lstrip("/") + (f"?{asked}" if asked else "")
    data = {"url": url, "watch": watch, "seen": seen, "every": every_ms, "onlyVisible": only_visible, "links": links}
    with st.container(key=f"push-{key}"):
        result = component(key=f"listen-{key}", data=data, height=1, on_revision_change=_nothing, on_open_change=_nothing)
    return result.open


def _nothing() -> None:
    """The rerun is all that is wanted."""


def picture(key: str, title: str, figure: str, help: str, newest: str = "", pick: bool = False) -> dict[str, Any]:
    """A card for the grid below, with a figure (JSON) that tells by itself whether it is another one."""
    revision = hashlib.blake2b(figure.encode(), digest_size=8).hexdigest()
    return {"key": key, "title": title, "newest": newest, "help": help, "revision": revision, "figure": figure, "pick": pick}


def chart_grid(key: str, cards: list[dict[str, Any]], columns: int) -> dict[str, Any] | None:
    """A grid of charts, each a dict of key, title, newest, help, revision (redrawn when it changes) and figure (JSON).

    Cards with the same `link` zoom and show a crosshair together; `window` is where the curves of a part are asked for.

    Of cards with a true `pick`: what was just clicked or caught with the lasso, as `{"card": key, "how": "click" or "area",
    "points": [customdata, ...]}`, in the one run of the script that it causes; else None.
    """
    script = "\n".join(map(javascript, ("loading.js", "saving.js", "linking.js", "charts.js")))
    component = st.components.v2.component("seqsetvae.charts", js=script, isolate_styles=False)
    data = {"plotly": PLOTLY, "columns": columns, "cards": cards}
    return component(key=f"charts-{key}", data=[data], on_picked_change=_nothing).picked


def follow_theme() -> None:
    """Mount what reruns the page when the theme that it is shown in is no longer the one that its charts are made for."""
    component = st.components.v2.component("seqsetvae.theme", js=javascript("theme.js"))
    with st.container(key="push-theme"):
        component(key="theme", data={"dark": st.context.theme.type == "dark"}, height=1, on_shown_change=_nothing)


def highlighting() -> None:
    """Mount what lets one run stand out in all charts while its entry in a legend (`data-legend`) is pointed at.

    It fetches plotly.js too: mounted first, that goes on while the server still reads the runs.
    """
    component = st.components.v2.component("seqsetvae.compare", js="\n".join(map(javascript, ("loading.js", "compare.js"))))
    with st.container(key="push-highlighting"):
        component(key="highlighting", data=[{"plotly": PLOTLY}], height=1)
