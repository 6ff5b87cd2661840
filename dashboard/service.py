"""What one dashboard process holds: the runs folder, its watcher, and the readers that all sessions share."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dashboard.jobs.devices import KEY as DEVICES
from dashboard.jobs.queue import Jobs
from dashboard.jobs.record import KEY as JOBS
from dashboard.live.header import GONE, head_token, numbers
from dashboard.notify.send import Way
from dashboard.notify.watch import KEY as NOTICES
from dashboard.notify.watch import Bell
from dashboard.outlive import Outlive, restarted
from dashboard.overview.rows import Rows
from dashboard.overview.summaries import Summaries
from dashboard.resources import WORKERS, full_pool, give_back
from dashboard.runs.colours import Colours
from dashboard.runs.loading import Store, folder_token
from dashboard.runs.watch import LIST, Revisions, Watcher, check_silent_changes
from dashboard.work import Work
from shared.layout import SNAPSHOT_KINDS

SNAPSHOT_FOLDERS = (*SNAPSHOT_KINDS, "analysis")


@dataclass(frozen=True)
class Options:
    """What the command line allowed."""

    allow_jobs: bool = False
    """Programs may be started from the pages."""
    auth: Literal["none", "token", "oidc", "proxy"] = "none"
    """How people sign in."""
    data: tuple[Path, ...] = ()
    """Where prepared data sets are looked for."""
    ways: tuple[Way, ...] = ()
    """Where notices go besides the pages."""
    address: str = ""
    """Of this dashboard, for links in notices."""


class Service:
    """Made once by the server before it serves; the pages reach it through `service()`."""

    def __init__(self, runs: Path, options: Options = Options()) -> None:
        self.runs = runs
        self.options = options
        self.colours = Colours(runs)
        self.revisions = Revisions(self.describe)
        self.watcher = Watcher(runs, self.revisions)
        self.jobs = Jobs(runs, allowed=options.allow_jobs)
        self.work = Work(runs, lambda name: self.revisions.mark([name]))
        self.store = Store(runs, self.revisions.current, lambda name: self.revisions.mark([name]), self.revisions.subscribed)
        self.summaries = Summaries(runs, self.revisions.current, lambda: self.revisions.mark([LIST]))
        self.bell = Bell(runs, lambda: self.revisions.mark([NOTICES]), options.ways, options.address)
        self.revisions.hear = self.bell.touch
        self.rows = Rows(self.summaries, self.colours)

    def describe(self, key: str) -> dict[str, Any]:
        """What goes to the pages with a revision of a run: its newest figures, and tokens of its header and of its folders.

        A page listens to the token of what it shows, so that a step of training does not wake a page about checkpoints.
        """
        if key == LIST:
            return {}
        if key == NOTICES:
            return self.bell.message()
        if key in (JOBS, DEVICES):
            return self.jobs.message() if key == JOBS else {"load": self.jobs.devices.look().token}
        snapshot = self.store.snapshot(key)
        if snapshot is None:
            return {"head": GONE, "curves": GONE, "snapshots": GONE, "checkpoints": GONE, "numbers": {}}
        root = snapshot.status.layout.root
        return {
            "head": head_token(snapshot),
            "curves": snapshot.curves_token,
            "events": folder_token(root, "events.jsonl"),
            "console": folder_token(root, "console.log"),
            "snapshots": folder_token(root, *SNAPSHOT_FOLDERS),
            "checkpoints": folder_token(root, "checkpoints"),
            "numbers": numbers(snapshot),
        }

    def state_of(self, key: str) -> Hashable:
        """What may change about a key without any file changing."""
        if key == NOTICES:
            return None
        if key == LIST:
            return self.summaries.recheck()
        return self.jobs.devices.look().token if key == DEVICES else self.store.health(key)

    def shown(self, key: str) -> Hashable:
        """The same as pages have it; of the list nobody knows, and news of it costs little."""
        return None if key in (NOTICES, LIST, DEVICES) else self.store.shown(key)

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Watch while the server serves."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(full_pool(WORKERS, "server"))
        self.revisions.attach(loop)
        self.bell.start()
        checks = asyncio.create_task(self._watch())
        queue = asyncio.create_task(restarted("the queue of jobs", lambda: self.jobs.run(self.revisions)))
        returning = asyncio.create_task(give_back())
        try:
            yield
        finally:
            self.revisions.close()
            checks.cancel()
            queue.cancel()
            returning.cancel()
            await asyncio.gather(checks, queue, returning, return_exceptions=True)
            await asyncio.to_thread(self.work.stop)
            await asyncio.to_thread(self.watcher.stop)
            await asyncio.to_thread(self.bell.stop)

    async def _watch(self) -> None:
        """Setting up the watches of 2,000 runs takes a moment that no page has to wait for."""
        with Outlive("beginning to watch the runs folder"):  # the checks try again
            await asyncio.to_thread(self.watcher.start)
        self.summaries.distrust()
        self.revisions.mark([LIST, *self.revisions.subscribed()])
        await check_silent_changes(self.watcher, self.state_of, self.shown)


_running: list[Service] = []


def install(service: Service) -> None:
    """Make `service` the one that this process's pages use: Streamlit runs page scripts without arguments."""
    _running[:] = [service]


def service() -> Service:
    """The service of this process.

    Raises:
        RuntimeError: the pages were started without their server.
    """
    if not _running:
        raise RuntimeError("start the dashboard with `python -m dashboard --runs DIR`, not with `streamlit run`")
    return _running[0]
