"""How a comparison hears of its runs: one stream for all of them."""

import asyncio

import orjson

from dashboard.runs.watch import SEPARATOR, Revisions


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
