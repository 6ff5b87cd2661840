"""Jobs as they lie on the disk, so that they outlive the dashboard: RUNS/.dashboard/jobs/ID.json, and what each printed in ID.log."""

import fcntl
import re
import secrets
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, Field, field_validator

from dashboard.runs.loading import folder_token
from shared.errors import InputError
from shared.reader import read_record
from shared.schema import Record, now
from shared.writer import write_record

KEY = ".dashboard"
"""The folder in RUNS that is no run, and the key under which the watcher announces what changes in it."""
CPU, ANALYSIS, ANY_GPU = "cpu", "analysis", "gpu"
"""Devices that are not GPUs by number."""
WIDTH = 56
"""Letters after which a command is broken before its next option, where there is room for about 80."""
ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


class JobState(StrEnum):
    """The life of a job. What can be told from its process alone is settled by the queue."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    KILLED = "killed"
    LOST = "lost"
    CANCELLED = "cancelled"


ACTIVE = (JobState.STARTING, JobState.RUNNING)
ENDED = (JobState.FINISHED, JobState.INTERRUPTED, JobState.FAILED, JobState.KILLED, JobState.LOST, JobState.CANCELLED)


def parse_device(device: str) -> list[int] | None:
    """GPU numbers of `gpu:0,1`; None for cpu, analysis and gpu (any one).

    Raises:
        InputError: another form, or a number twice.
    """
    if device in (CPU, ANALYSIS, ANY_GPU):
        return None
    kind, _, numbers = device.partition(":")
    parts = numbers.split(",")
    if kind != "gpu" or not all(part.isascii() and part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise InputError(f"device: {device!r}; expected cpu, analysis, gpu, or GPUs by number as in gpu:0,1")
    return sorted(int(part) for part in parts)


class Process(BaseModel):
    """A process that cannot be mistaken for a later one of the same number."""

    pid: int
    birth: str | None


class Noted(Record):
    """What the runner noted: the job's process once it is there, its exit status once it has ended."""

    at: AwareDatetime
    pid: int | None = None
    birth: str | None = None
    status: int | None = None
    error: str | None = None


class Job(Record):
    """`ID.json`. Only the queue writes it, and only while it holds the lock of the folder."""

    id: str
    words: list[str] = Field(min_length=1, description="argument list after `python -m backend`")
    device: str = Field(description="what it asks for: cpu, analysis, gpu (any one), or gpu:0,1")
    host: str = Field(description="the machine whose devices it waits for")
    state: JobState = JobState.QUEUED
    order: float
    created_at: AwareDatetime = Field(default_factory=now)
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    lanes: list[str] = Field(default_factory=list, description="what it holds while it is active: cpu, analysis, gpu 0")
    runner: Process | None = None
    process: Process | None = None
    stop_asked_at: AwareDatetime | None = None
    kill_asked_at: AwareDatetime | None = None
    exit_status: int | None = None
    reason: str | None = None
    run: str | None = Field(default=None, description="folder of the run it writes, once that is known")

    @field_validator("device")
    @classmethod
    def _device_can_be_had(cls, device: str) -> str:
        try:
            parse_device(device)
        except InputError as error:
            raise ValueError(str(error)) from error
        return device

    @property
    def command(self) -> str:
        """What it runs, as it would be typed."""
        return command_line(self.words, self.lanes, WIDTH)

    @property
    def stopping(self) -> bool:
        """Asked to stop and still there."""
        return self.state in ACTIVE and self.stop_asked_at is not None


def command_line(words: Sequence[str], lanes: Sequence[str] = (), width: int | None = None) -> str:
    """The words as a line for a shell; GPUs are chosen by the environment, as the queue does.

    With a `width` it is broken before options, as far as they allow, in a way that a shell takes as one line.
    """
    cards = [lane.removeprefix("gpu ") for lane in lanes if lane.startswith("gpu ")]
    quoted = [shlex.quote(word) for word in ("python", "-m", "backend", *words)]
    if cards:
        quoted.insert(0, f"CUDA_VISIBLE_DEVICES={','.join(cards)}")
    lines: list[str] = []
    for word in quoted:
        room = not lines or width is None or not word.startswith("--") or len(lines[-1]) < width
        if lines and room:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return " \\\n".join(lines)


@dataclass
class JobFolder:
    """The folder of all jobs. Reading needs no lock: records are replaced whole."""

    runs: Path
    _cache: dict[str, tuple[tuple[int, int], Job]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where the records lie; it may not be there yet."""
        return self.runs / KEY / "jobs"

    @property
    def token(self) -> str:
        """Changes when a record is written or a file appears; not when a job prints."""
        return folder_token(self.runs / KEY, "jobs")

    def file(self, job: str, suffix: str) -> Path:
        """`.json`, `.log`, `.process` or `.exit` of a job.

        Raises:
            InputError: not the name of a job.
        """
        if not ID.fullmatch(job):
            raise InputError(f"job {job!r}: not the name of a job")
        return self.root / f"{job}{suffix}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, over all dashboards and threads; the folder is there inside the block."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def new_id(self) -> str:
        """A name that says when, and that no other job has."""
        return f"{now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"

    def read(self, job: str) -> Job:
        """One record. Raises InputError when there is none, or when it cannot be read."""
        path = self.file(job, ".json")
        try:
            status = path.lstat()
        except OSError as error:
            raise InputError(f"job {job}: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"job {job}: {path.name} is a link or a folder; it is not followed")
        stamp = (status.st_ino, status.st_mtime_ns)
        known = self._cache.get(job)
        if known is None or known[0] != stamp:
            known = self._cache[job] = stamp, read_record(path, Job)
        return known[1].model_copy()

    def all(self) -> tuple[list[Job], list[str]]:
        """All jobs in the order of the queue, and what is wrong with records that cannot be read."""
        jobs, problems = [], []
        for path in sorted(self.root.glob("*.json")):
            if ID.fullmatch(path.stem):
                try:
                    jobs.append(self.read(path.stem))
                except InputError as error:
                    problems.append(str(error))
        return sorted(jobs, key=lambda job: (job.order, job.id)), problems

    def write(self, job: Job) -> None:
        """Replace a record. The caller holds the lock."""
        write_record(self.file(job.id, ".json"), job, durable=True)

    def noted(self, job: str, suffix: str) -> Noted | None:
        """What the runner noted in `.process` or `.exit`; None before that, and for a link."""
        path = self.file(job, suffix)
        try:
            return read_record(path, Noted) if stat.S_ISREG(path.lstat().st_mode) else None
        except (InputError, OSError):
            return None

    def printed(self, job: str) -> int:
        """Bytes in the log of a job; 0 before there is one."""
        try:
            return self.file(job, ".log").stat().st_size
        except OSError:
            return 0

    def remove(self, job: str) -> None:
        """Delete a job with all its files. The caller holds the lock."""
        for suffix in (".json", ".log", ".process", ".exit"):
            self.file(job, suffix).unlink(missing_ok=True)
        self._cache.pop(job, None)
