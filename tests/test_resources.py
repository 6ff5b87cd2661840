"""What a server keeps: threads from the start, memory only while it is needed."""

import asyncio
import threading

import numpy as np
import psutil
import pytest

from dashboard import resources


def test_a_pool_has_all_its_threads_at_once_and_works() -> None:
    before = threading.active_count()
    with resources.full_pool(3, "some") as pool:
        assert threading.active_count() == before + 3
        assert sorted(pool.map(abs, range(-20, 0))) == list(range(1, 21))
        assert threading.active_count() == before + 3
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(resources._libc, "malloc_trim"), reason="not glibc")
def test_freed_memory_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "EVERY_S", 0.05)
    process = psutil.Process()
    kept = [[np.zeros(3000) for _ in range(8000)]]  # 190 MB in pieces small enough to stay on the heap, and one at its end
    end = np.zeros(3000)
    kept.clear()

    async def wait() -> None:
        returning = asyncio.create_task(resources.give_back())
        before = process.memory_info().rss
        for _ in range(100):
            await asyncio.sleep(0.05)
            if process.memory_info().rss < before - 100e6:
                break
        else:
            raise AssertionError("nothing came back")
        returning.cancel()

    asyncio.run(wait())
    assert end.sum() == 0
