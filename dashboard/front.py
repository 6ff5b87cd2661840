"""Answers from the first moment: a browser gets Streamlit's own files at once, all else as soon as the application is loaded.

Loading takes Python a second, and the browser as long to start Streamlit's page: here both go on at the same time.
"""

import asyncio
import gc
import mimetypes
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from dashboard.document import FOR_GOOD, SMALL_PLOTLY, SMALL_PLOTLY_PATH, document, links, script, streamlit_files

PAGES = ("/", "/live", "/compare", "/checkpoints", "/latent", "/reconstruction", "/jobs")
WITH_CHARTS = ("/live", "/compare")
SWITCH_S = 0.0005
"""How long the thread that loads keeps the interpreter while a request waits for it; by default 5 ms, several times a request."""


@dataclass(frozen=True)
class Loaded:
    """The application and what belongs to it."""

    app: ASGIApp
    running: AbstractAsyncContextManager[None]
    """Held while the application serves."""
    close_streams: Callable[[], None]
    """Ends the responses that never end by themselves."""


class Front:
    """Stands in front of the application that `load` makes on a thread, behind the guard.

    Args:
        load: makes the application; may give the front a `reader` on its way there.
        failed: called when that raised an error, which `error` then holds.
        signs_in: Streamlit is to know who looks.
    """

    def __init__(self, load: "Callable[[Front], Loaded]", failed: Callable[[], None], *, signs_in: bool = False) -> None:
        self.error: BaseException | None = None
        self._load = load
        self._failed = failed
        self._signs_in = signs_in
        self._files = streamlit_files()
        self._asked: list[str] = []
        self._reader: Callable[[list[str]], None] | None = None
        self._loaded: Loaded | None = None
        self._ready, self._closing = asyncio.Event(), asyncio.Event()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "GET":
            answer = self._file(scope["path"]) or self._page(scope)
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self._ready.wait()
        await (self._loaded.app if self._loaded else self._instead(scope))(scope, receive, send)

    def reads_ahead(self, reader: Callable[[list[str]], None]) -> None:
        """From now on tell `reader` of the runs that pages will ask for, and at once of those since the start."""
        self._reader = reader
        reader(self._asked)

    def close_streams(self) -> None:
        """End the responses that never end by themselves, and those that wait for the application: a server that is told to stop
        waits for them."""
        self._stopping = True
        self._ready.set()
        if self._loaded is not None:
            self._loaded.close_streams()

    def _instead(self, scope: Scope) -> ASGIApp:
        """The answer where there is no application."""
        if scope["type"] == "websocket":
            return WebSocketClose(1012)
        if self._stopping:
            return PlainTextResponse("The dashboard is being stopped.\n", status_code=503)
        return PlainTextResponse("The dashboard could not be started.\n", status_code=500)

    def _file(self, path: str) -> Response | None:
        """A file that is named by its content, and so kept for good."""
        if path == f"/{SMALL_PLOTLY_PATH}":
            return script(SMALL_PLOTLY)
        if not path.startswith("/static/") or path not in self._files:
            return None
        kind = mimetypes.guess_type(path)[0]
        return Response(self._files[path].read_bytes(), media_type=kind, headers={"Cache-Control": FOR_GOOD})

    def _page(self, scope: Scope) -> Response | None:
        """The document of a page, which is the same for all of them. The runs that its address names are read at once."""
        if scope["path"] not in PAGES:
            return None
        headers, charts = {"Cache-Control": "no-cache"}, scope["path"] in WITH_CHARTS
        if charts:
            headers["Link"] = links()
            names = parse_qs(scope["query_string"].decode("latin-1")).get("run", [])
            self._asked += names
            if self._reader is not None:
                self._reader(names)
        return Response(document(charts, self._signs_in), media_type="text/html", headers=headers)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Say that it serves at once, and load meanwhile."""
        await receive()
        opening = asyncio.create_task(self._open())
        opening.add_done_callback(self._ended)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._closing.set()
        await asyncio.wait([opening])
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        with loading():
            loaded = await asyncio.to_thread(self._load, self)
        async with loaded.running:
            self._loaded = loaded
            self._ready.set()
            await self._closing.wait()

    def _ended(self, opening: asyncio.Task[None]) -> None:
        self.error = None if opening.cancelled() else opening.exception()
        self._ready.set()
        if self.error is not None:
            self._failed()


@contextmanager
def loading() -> Iterator[None]:
    """Load fast and let requests through: threads hand over the interpreter often, and no garbage is looked for among modules."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(before)
