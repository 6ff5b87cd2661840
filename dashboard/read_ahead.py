"""What a page needs later, begun while the browser still fetches the page's first scripts: its runs are read, plotly.js is sent."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.compare.view import MOST_RUNS
from dashboard.components import PLOTLY
from dashboard.runs.loading import Store

PAGES = ("/compare", "/live")
READERS = 4


class ReadAhead:
    """Stands in front of the pages, behind the guard: whoever may not look causes no reading."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self.app = app
        self._store = store
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"].endswith(PAGES):
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("run", [])
            for name in dict.fromkeys(asked[:MOST_RUNS]):
                self._pool.submit(self._store.snapshot, name)
            await self.app(scope, receive, preloading(send))
            return
        await self.app(scope, receive, send)

    def close(self) -> None:
        """Wait until everything begun has been read."""
        self._pool.shutdown()


def preloading(send: Send) -> Send:
    """Tells the browser, with the page itself, to fetch plotly.js."""

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/html"):
                headers.append("Link", f"<{PLOTLY['small']}>; rel=preload; as=script")
        await send(message)

    return told
