"""Threads and memory of a server that runs for weeks: all threads from the start, and freed memory back to the system."""

import asyncio
import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

WORKERS = 6
"""Threads for what would hold up the event loop: reading files, building answers."""
EVERY_S = 60.0
M_ARENA_MAX, ARENAS = -8, 2
"""`mallopt(3)`: by default glibc keeps up to eight heaps a core, and in each what was freed there."""

_libc = ctypes.CDLL(None)


def full_pool(size: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads all exist: started when first needed, they would appear in the course of days."""
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    together = threading.Barrier(size)
    for _ in range(size):
        pool.submit(together.wait)
    return pool


def few_heaps() -> None:
    """Share heaps between threads, where glibc is the library."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(M_ARENA_MAX, ARENAS)


async def give_back() -> None:
    """Return freed memory every minute: what sessions and large logs have left behind."""
    while True:
        await asyncio.sleep(EVERY_S)
        pa.default_memory_pool().release_unused()
        if hasattr(_libc, "malloc_trim"):
            await asyncio.to_thread(_libc.malloc_trim, 0)
