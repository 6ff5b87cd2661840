"""Begins to read the runs that an address names while the browser still fetches the page's scripts: a second less to wait."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.compare_view import MOST_RUNS
from dashboard.loading import Store

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
        await self.app(scope, receive, send)

    def close(self) -> None:
        """Wait until everything begun has been read."""
        self._pool.shutdown()
