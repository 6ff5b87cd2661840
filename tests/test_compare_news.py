"""How a comparison hears of its runs: one stream for all of them; and what is read before the page asks."""

import asyncio
import threading
from pathlib import Path

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from dashboard.compare.view import MOST_RUNS
from dashboard.read_ahead import ReadAhead
from dashboard.runs.loading import Store
from dashboard.runs.watch import SEPARATOR, Revisions
from tests.run_factory import make_run


def test_one_stream_tells_of_each_of_several_runs() -> None:
    async def scenario() -> list[int]:
        revisions = Revisions(lambda key: {"described": key})
        revisions.attach(asyncio.get_running_loop())
        seen = []
        stream = revisions.stream(SEPARATOR.join(("a", "b", "a")))

        async def following() -> int:
            text = await asyncio.wait_for(anext(stream), 5)
            message = orjson.loads(text.removeprefix("data: ").strip())
            assert set(message) == {"revision"}, "of several runs no figures are sent along"
            return message["revision"]

        seen.append(await following())
        for key in ("b", "a"):
            revisions.mark(["other", key])
            seen.append(await following())
        assert revisions.current(SEPARATOR.join(("a", "b", "a"))) == seen[-1]
        assert set(revisions.subscribed()) == {"a", "b"}
        await stream.aclose()
        assert revisions.subscribed() == [], "nothing is left behind"
        return seen

    first, second, third = asyncio.run(scenario())
    assert first < second < third


@pytest.mark.parametrize(
    ("path", "query", "read"),
    [
        ("/compare", "run=a&run=b&run=a", ["a", "b"]), ("/live", "run=b", ["b"]), ("/compare", "filter=x", []),
        ("/push", "run=a", []), ("/compare", "&".join(f"run={number}" for number in range(300)), [str(n) for n in range(MOST_RUNS)]),
        ("/compare", "run=..%2Fx&run=a%00", ["../x", "a\0"]),
    ],
)  # fmt: skip
def test_runs_of_an_address_are_read_before_the_page_asks(path: str, query: str, read: list[str]) -> None:
    asked: list[str] = []
    served = threading.Event()

    class Recording:
        def snapshot(self, name: str) -> None:
            asked.append(name)

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        served.set()

    ahead = ReadAhead(app, Recording())  # type: ignore[arg-type]
    scope = {"type": "http", "path": path, "query_string": query.encode()}
    asyncio.run(ahead(scope, None, None))  # type: ignore[arg-type]
    ahead.close()
    assert served.is_set() and sorted(asked) == sorted(read)


def test_what_was_read_ahead_is_what_the_page_gets(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=50)
    store = Store(tmp_path, lambda _name: 1)

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """The page."""

    ahead = ReadAhead(app, store)
    asyncio.run(ahead({"type": "http", "path": "/compare", "query_string": b"run=a&run=../a"}, None, None))  # type: ignore[arg-type]
    ahead.close()
    found = store.snapshot("a")
    assert found is not None and found is store.snapshot("a") and found.last_step == 50
