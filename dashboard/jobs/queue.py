"""The queue of jobs: what was asked for is kept on the disk, started when its device is free, and followed to its end.

Any number of dashboards may work on one folder: whoever holds its lock moves jobs on. Nothing here runs while there is nothing
to follow.
"""

import asyncio
import contextlib
import importlib.util
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dashboard.jobs.devices import Devices
from dashboard.jobs.process import interrupt, kill, launch
from dashboard.jobs.record import ACTIVE, ANALYSIS, ANY_GPU, CPU, ENDED, KEY, Job, JobFolder, JobState, Process, parse_device
from dashboard.jobs.schedule import TRAINING, Places, place
from dashboard.jobs.settle import seen_from, settle
from dashboard.jobs.words import check, check_training, run_named
from dashboard.runs.watch import Revisions
from shared.errors import InputError
from shared.schema import now

LOOK_S = 2.0
"""Seconds between looks at processes that may have died without a word, or begun a run; only while there are any."""
GAP_S = 0.2
REFUSED = "this dashboard starts no programs: restart it with --allow-jobs"

log = logging.getLogger("dashboard")


class Jobs:
    """All jobs of a runs folder. Methods may be called from any thread, and by any number of dashboards."""

    def __init__(self, runs: Path, *, allowed: bool, cwd: Path | None = None, devices: Devices | None = None) -> None:
        self.runs = runs
        self.allowed = allowed
        self.folder = JobFolder(runs)
        self.devices = devices or Devices()
        self.cwd = cwd or Path.cwd()
        self.host = socket.gethostname()

    def all(self) -> tuple[list[Job], list[str]]:
        """Jobs in the order of the queue, and what is wrong with records that cannot be read."""
        jobs, problems = self.folder.all()
        return [self._seen(job) for job in jobs], problems

    def get(self, job: str) -> Job:
        """One job. Raises InputError when there is none of that name, or it cannot be read."""
        return self._seen(self.folder.read(job))

    def _seen(self, job: Job) -> Job:
        return seen_from(self.host, job, self.folder, self.runs)

    def message(self) -> dict[str, str | int]:
        """What goes to the pages: a token of the records, and how much each active job has printed."""
        active = [job.id for job in self.all()[0] if job.state in ACTIVE]
        return {"jobs": self.folder.token, **{f"log {job}": self.folder.printed(job) for job in active}}

    def missing(self) -> str | None:
        """Why jobs cannot run here although they are allowed; None when they can."""
        lacking = [name for name in ("backend", "torch", "lightning") if importlib.util.find_spec(name) is None]
        return f"{', '.join(lacking)} is not installed beside this dashboard" if lacking else None

    def default_device(self, command: str) -> str:
        """For training any GPU where there is one; an analysis runs beside it."""
        if command not in TRAINING:
            return ANALYSIS
        return ANY_GPU if self.devices.look().gpus else CPU

    def submit(self, words: Sequence[str], device: str) -> Job:
        """Put a job at the end of the queue, checked.

        Raises:
            InputError: not allowed here, or the words or the device do not fit.
        """
        self._check_allowed()
        missing = self.missing()
        if missing:
            raise InputError(f"job: {missing}; copy the command to a machine that has it")
        numbers = parse_device(device)
        checked = check(words, self.runs)
        if checked[0] in ("train", "preflight"):
            _check_device(checked, device, numbers, self.runs)
        with self.folder.locked():
            last = max((job.order for job in self.all()[0]), default=0.0)
            about = run_named(checked, self.runs)
            job = Job(
                id=self.folder.new_id(), words=checked, device=device, host=self.host, order=last + 1, run=about
            )  # fmt: skip
            self.folder.write(job)
        self.tick()
        return self.get(job.id)

    def cancel(self, job: str) -> None:
        """Take a queued job out of the queue. Raises InputError when it has been started meanwhile, or it is not allowed."""
        with self._changing(job) as record:
            if record.state is not JobState.QUEUED:
                raise InputError(f"job {job}: is {record.state}, so it cannot be taken out of the queue; stop it instead")
            record.state, record.ended_at = JobState.CANCELLED, now()

    def move(self, job: str, places: int) -> None:
        """Bring a queued job forward (-1) or back (1) among the queued."""
        self._check_allowed()
        with self.folder.locked():
            queued = [each for each in self.all()[0] if each.state is JobState.QUEUED]
            at = next((index for index, each in enumerate(queued) if each.id == job), None)
            if at is None or not 0 <= at + places < len(queued):
                return
            one, other = queued[at], queued[at + places]
            one.order, other.order = other.order, one.order
            self.folder.write(one)
            self.folder.write(other)

    def stop(self, job: str) -> None:
        """Ask a job to stop gracefully: training finishes its step and leaves an interrupted_* checkpoint.

        Raises:
            InputError: not allowed, of another machine, or not running.
        """
        with self._changing(job) as record:
            if not self._reach(record, interrupt):
                raise InputError(f"job {job}: there is no process to stop (it is {record.state})")
            record.stop_asked_at = now()

    def kill(self, job: str) -> None:
        """End a job at once; what came after its last checkpoint is lost. Raises InputError as `stop`."""
        with self._changing(job) as record:
            if not self._reach(record, kill):
                raise InputError(f"job {job}: there is no process to kill (it is {record.state})")
            record.kill_asked_at = now()

    def forget(self, job: str) -> None:
        """Take an ended job off the list, with its log; its run stays. Raises InputError when it has not ended."""
        self._check_allowed()
        with self.folder.locked():
            if self.get(job).state not in ENDED:
                raise InputError(f"job {job}: has not ended")
            self.folder.remove(job)

    def places(self) -> Places:
        """What the queued jobs of this machine wait for."""
        return self._places([job for job in self.all()[0] if job.host == self.host])

    def would_wait(self, device: str) -> str | None:
        """What a training that asked for this device now would wait for; None if it would start."""
        jobs = [job for job in self.all()[0] if job.host == self.host]
        new = Job(id="", words=["train"], device=device, host=self.host, order=0)
        return self._places([*jobs, new]).reasons.get(new.id)

    def _places(self, jobs: list[Job]) -> Places:
        wants_gpu = any(job.state is JobState.QUEUED and job.device.startswith(ANY_GPU) for job in jobs)
        gpus = self.devices.look().gpus if wants_gpu else ()
        return place(jobs, [gpu.index for gpu in sorted(gpus, key=lambda gpu: gpu.used_mib or 0)])

    def tick(self) -> bool:
        """Settle what has ended and start what may start; whether there is anything left to follow."""
        jobs, _ = self.all()
        if not any(job.state not in ENDED for job in jobs):
            return False
        with self.folder.locked():
            jobs = [job for job in self.all()[0] if job.host == self.host]
            for job in jobs:
                if job.state in ACTIVE and settle(job, self.folder, self.runs):
                    self.folder.write(job)
            if self.allowed:
                lanes = self._places(jobs).lanes
                for job in (each for each in jobs if each.id in lanes):
                    self._start(job, lanes[job.id])
        return any(job.state in ACTIVE for job in jobs)

    def _start(self, job: Job, lanes: list[str]) -> None:
        """The caller holds the lock, so that no other dashboard starts it too."""
        job.state, job.lanes, job.started_at = JobState.STARTING, lanes, now()
        self.folder.write(job)
        try:
            words = check(job.words, self.runs)  # again: others may be able to write into the folder, and things change
            runner, job.runner = launch(self.folder.file(job.id, ".json"), words, self.cwd, lanes)
        except (InputError, OSError) as error:
            job.state, job.ended_at = JobState.FAILED, now()
            job.reason = f"cannot be started: {error}"
        else:
            threading.Thread(target=runner.wait, daemon=True, name=f"job {job.id}").start()  # or it would stay as a zombie
        self.folder.write(job)

    def _reach(self, job: Job, send: Callable[[Process], bool]) -> bool:
        if job.host != self.host:
            raise InputError(f"job {job.id}: runs on {job.host}; open the dashboard there")
        settle(job, self.folder, self.runs)
        return job.state in ACTIVE and job.process is not None and send(job.process)

    @contextlib.contextmanager
    def _changing(self, job: str) -> Iterator[Job]:
        """A record under the lock, written when the block ends well; then the queue goes on."""
        self._check_allowed()
        with self.folder.locked():
            record = self.get(job)
            yield record
            self.folder.write(record)
        self.tick()

    def _check_allowed(self) -> None:
        if not self.allowed:
            raise InputError(REFUSED)

    async def run(self, revisions: Revisions) -> None:
        """Follow the jobs while the server serves: at every change of their records, and now and then while any is active.

        What jobs print wakes this too, for pages follow it under the same key; it costs a look at the folder's time then.
        """
        active, seen, looked = True, None, 0.0
        with revisions.subscribe(KEY) as changed:
            while True:
                changed.clear()
                token = await asyncio.to_thread(lambda: self.folder.token)
                if token != seen or (active and time.monotonic() - looked >= LOOK_S):
                    seen, looked = token, time.monotonic()
                    try:
                        active = await asyncio.to_thread(self.tick)
                    except OSError as error:  # a full disk, a folder taken away: tried again, and said
                        log.warning("the queue of jobs cannot go on: %s", error)
                        active = True
                await asyncio.sleep(GAP_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), max(looked + LOOK_S - time.monotonic(), 0) if active else None)


def _check_device(words: list[str], device: str, numbers: list[int] | None, runs: Path) -> None:
    """Refuse a configuration that asks for other devices than the job would get."""
    config = check_training(words[0], words[1:], runs).trainer
    if device == CPU and config.accelerator == "gpu":
        raise InputError("trainer.accelerator: 'gpu', and the job is to run on the CPU; choose a GPU, or auto")
    if device != CPU and config.accelerator == "cpu":
        raise InputError("trainer.accelerator: 'cpu', and the job is to hold a GPU; choose the CPU, or auto")
    count = len(numbers) if numbers is not None else 1
    if device != CPU and config.devices != count:
        raise InputError(f"trainer.devices: {config.devices}, and the job would get {count} GPU(s); give --devices {count}")
