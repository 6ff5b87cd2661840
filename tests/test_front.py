"""The server answers from its first moment: what the front serves itself, what waits, and what it says when loading fails."""

import asyncio
import http.client
import math
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from dashboard.__main__ import bind
from dashboard.compare.view import MOST_RUNS
from dashboard.document import SMALL_PLOTLY_PATH, document, inline_scripts, links, streamlit_files
from dashboard.front import Front, Loaded
from dashboard.read_ahead import ReadAhead
from dashboard.runs.loading import Store
from shared.writer import encode_line
from tests.browser.driving import serving
from tests.remote import ask
from tests.run_factory import make_run

STOPS_S = 15.0
"""Ctrl-C waits for what is being loaded, a second or two; a busy machine takes some more."""
SCRIPT = next(path for path in streamlit_files() if path.startswith("/static/js/index."))


class Recording:
    """A store that only notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def snapshot(self, name: str) -> None:
        self.asked.append(name)


class Application:
    """An application whose loading ends when the test says so, and that answers with the path."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go, self.log, self.store = threading.Event(), [], Recording()
        self.error = error
        self.reads = ReadAhead(self.store)  # type: ignore[arg-type]
        self.front = Front(self.load, lambda: self.log.append("failed"))

    def load(self, front: Front) -> Loaded:
        front.reads_ahead(self.reads)
        assert self.go.wait(20)
        if self.error:
            raise self.error
        return Loaded(self.answer, self.running(), lambda: self.log.append("streams closed"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.log.append("begun")
        yield
        self.log.append("ended")

    async def answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"application " + scope["path"].encode()})

    async def during(self, visit: "Callable[[httpx.AsyncClient], object]") -> None:
        """Run `visit` within the lifespan of the front."""
        coming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        said: asyncio.Queue[object] = asyncio.Queue()
        living = asyncio.create_task(self.front({"type": "lifespan"}, coming.get, said.put))
        await coming.put({"type": "lifespan.startup"})
        assert await asyncio.wait_for(said.get(), 5) == {"type": "lifespan.startup.complete"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.front), base_url="http://x") as client:
            await visit(client)  # type: ignore[misc]
        self.go.set()
        await coming.put({"type": "lifespan.shutdown"})
        assert await asyncio.wait_for(said.get(), 5) == {"type": "lifespan.shutdown.complete"}
        await living
        self.reads.close()


def test_pages_and_scripts_come_before_the_application_is_there_and_the_rest_waits_for_it() -> None:
    app = Application()

    async def visit(client: httpx.AsyncClient) -> None:
        page, script, plotly = [await client.get(path) for path in ("/live?run=a", SCRIPT, f"/{SMALL_PLOTLY_PATH}")]
        assert page.text == document(charts=True) and page.headers["cache-control"] == "no-cache"
        assert page.headers["link"] == links() and "text/html" in page.headers["content-type"]
        assert script.content == streamlit_files()[SCRIPT].read_bytes() and "immutable" in script.headers["cache-control"]
        assert "javascript" in script.headers["content-type"] and plotly.text.startswith("/**") and app.log == []
        waiting = asyncio.create_task(client.get("/_stcore/health"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        app.go.set()
        assert (await waiting).text == "application /_stcore/health" and app.log == ["begun"]
        for path in ("/static/js/../../x", "/static/none.js", "/elsewhere", "/live/", "/live/_stcore/health"):
            answer = await client.get(path)
            assert answer.text.startswith("application /"), path
        assert (await client.post("/live")).text == "application /live"
        app.front.close_streams()

    asyncio.run(app.during(visit))
    assert app.log == ["begun", "streams closed", "ended"]


def test_a_failure_to_load_is_answered_told_and_kept() -> None:
    app = Application(RuntimeError("no such module"))

    async def visit(client: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(client.get("/push"))
        await asyncio.sleep(0.05)
        app.go.set()
        answer = await asyncio.wait_for(waiting, 5)
        assert answer.status_code == 500 and answer.text == "The dashboard could not be started.\n"

    asyncio.run(app.during(visit))
    assert app.log == ["failed"] and str(app.front.error) == "no such module"


def test_a_stop_while_loading_waits_for_it_and_ends_well() -> None:
    app = Application()

    async def visit(_client: httpx.AsyncClient) -> None:
        assert app.log == [], "nothing runs before it is loaded"

    asyncio.run(app.during(visit))
    assert app.log == ["begun", "ended"] and app.front.error is None


def test_a_stop_while_loading_answers_who_waits() -> None:
    """The server would cancel them otherwise, each with a traceback."""
    app = Application()
    sent: asyncio.Queue[object] = asyncio.Queue()

    async def visit(client: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(client.get("/push"))
        stream = asyncio.create_task(app.front({"type": "websocket", "path": "/_stcore/stream"}, sent.get, sent.put))
        await asyncio.sleep(0.05)
        app.front.close_streams()
        answer = await asyncio.wait_for(waiting, 5)
        assert answer.status_code == 503 and answer.text == "The dashboard is being stopped.\n"
        await asyncio.wait_for(stream, 5)
        assert sent.get_nowait() == {"type": "websocket.close", "code": 1012, "reason": ""} and sent.empty()

    asyncio.run(app.during(visit))
    assert app.log == ["begun", "ended"] and app.front.error is None


@pytest.mark.parametrize("loaded", [False, True], ids=["while loading", "later"])
@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("/compare?run=a&run=b&run=a", ["a", "b"]), ("/live?run=b", ["b"]), ("/compare?filter=x", []), ("/?run=a", []),
        ("/compare?" + "&".join(f"run={number}" for number in range(300)), [str(n) for n in range(MOST_RUNS)]),
        ("/compare?run=..%2Fx&run=a%00", ["../x", "a\0"]),
    ],
)  # fmt: skip
def test_runs_of_an_address_are_read_before_the_page_asks(address: str, read: list[str], loaded: bool) -> None:
    app = Application()

    async def visit(client: httpx.AsyncClient) -> None:
        if loaded:
            app.go.set()
            await client.get("/_stcore/health")
        await client.get(address)

    asyncio.run(app.during(visit))
    assert sorted(set(app.store.asked)) == sorted(read)


def test_what_was_read_ahead_is_what_the_page_gets(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=50)
    store = Store(tmp_path, lambda _name: 1)
    ahead = ReadAhead(store)
    ahead(["a", "../a"])
    ahead.close()
    found = store.snapshot("a")
    assert found is not None and found is store.snapshot("a") and found.last_step == 50


def test_the_document_begins_with_our_script_and_names_it_for_the_policy() -> None:
    page = document(charts=True)
    assert page.index("BACKEND_BASE_URL") < page.index("/static/js/index.") and f'data-plotly="{SMALL_PLOTLY_PATH}"' in page
    assert "data-plotly=" not in document(charts=False)
    scripts = inline_scripts()
    assert len(scripts) == 2 and all(f">{script}</script>" in document(charts=False) for script in scripts)
    assert 'data-cookie="_streamlit_xsrf">' in document(charts=False, signs_in=True) and "data-cookie=" not in page
    early = links().split(", ")
    assert f"<{SMALL_PLOTLY_PATH}>; rel=preload; as=script" in early and any("BidiComponent" in link for link in early)
    assert all(f"/{link.split('>')[0][1:]}" in streamlit_files() for link in early[1:])


def test_connections_do_not_wait_for_acknowledgements() -> None:
    """Without this, headers and body of each answer are held apart by 40 ms."""
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_neither_starting_nor_reading_loads_pandas(tmp_path: Path) -> None:
    """It would cost a quarter of a second; and plotly, which Streamlit loads, fails on one that another thread has half loaded."""
    layout = make_run(tmp_path, "a", steps=300, collapse=True)
    with layout.metrics.open("ab") as log:  # values that are missing, of another kind, or no numbers
        log.write(encode_line(301, {"loss": None, "kl": math.nan}) + encode_line(302, {"loss": 1, "flag": True, "note": "x"}))
    code = (
        "import sys\nfrom pathlib import Path\nimport dashboard.__main__, dashboard.application\n"
        "from dashboard.runs.loading import Store\nfound = Store(Path(sys.argv[1]), lambda _name: 1).snapshot('a')\n"
        "sys.exit('pandas was loaded' if 'pandas' in sys.modules else found.last_step != 302)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [None, "/push?run=a"], ids=["nobody asks", "a request waits"])
def test_ctrl_c_as_soon_as_the_address_is_printed_ends_the_server_without_a_word(tmp_path: Path, path: str | None) -> None:
    with (tmp_path / "stderr").open("w") as stderr, serving(tmp_path / "runs", stderr=stderr) as (address, process):
        waiting = http.client.HTTPConnection(address.removeprefix("http://"), timeout=STOPS_S)
        if path is not None:
            waiting.request("GET", path)
            assert ask(address, "/live").status == 200, "asked later, so the other one has reached the server too"
        process.send_signal(signal.SIGINT)
        assert process.wait(STOPS_S) == 0
        assert path is None or waiting.getresponse().status == 503
        waiting.close()
    assert (tmp_path / "stderr").read_text() == ""
