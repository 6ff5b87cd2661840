"""The runs that a page will show are read while the browser still fetches the page's first scripts."""

from dashboard.compare.view import MOST_RUNS
from dashboard.resources import full_pool
from dashboard.runs.loading import Store

READERS = 4


class ReadAhead:
    """Reads on a few threads of its own into `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = full_pool(READERS, "read-ahead")

    def __call__(self, names: list[str]) -> None:
        """Begin to read the runs of these names; those that are none cost nothing."""
        for name in dict.fromkeys(names[:MOST_RUNS]):
            self._pool.submit(self._store.snapshot, name)

    def close(self) -> None:
        """Wait until everything begun has been read."""
        self._pool.shutdown()
