"""The records that cross the border between the trainer and everything that reads its runs."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import InputError
from shared.layout import SCHEMA_VERSION

T = TypeVar("T")


def now() -> datetime:
    """The current time in UTC; every time in a run directory is UTC and ISO 8601."""
    return datetime.now(UTC)


def checked(kind: TypeAdapter[T], data: object) -> T:
    """What was read, as a value of that type; fields that it does not know are left out.

    Raises:
        InputError: names the first field that is missing or wrong.
    """
    try:
        return kind.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc'])) or 'data'}: {first['msg']}") from error


class Record(BaseModel):
    """A versioned record. Fields added by a later minor version are kept, an unknown version is an error."""

    model_config = ConfigDict(extra="allow", ser_json_inf_nan="null")

    schema_version: int = SCHEMA_VERSION


class RunState(StrEnum):
    """The life of a run. What a dead process left as `running` is told apart by its heartbeat."""

    CREATED = "created"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


ALLOWED_TRANSITIONS: dict[RunState, set[RunState]] = {
    RunState.CREATED: {RunState.RUNNING, RunState.INTERRUPTED, RunState.FAILED},
    RunState.RUNNING: {RunState.RUNNING, RunState.FINISHED, RunState.INTERRUPTED, RunState.FAILED},
    RunState.FINISHED: {RunState.RUNNING},
    RunState.INTERRUPTED: {RunState.RUNNING},
    RunState.FAILED: {RunState.RUNNING},
}
"""Running to running is a resume after `kill -9`, which leaves no time to write another state."""


class DatasetSummary(BaseModel):
    """The part of `dataset.json` that a run keeps, so that it can be understood after the data has moved."""

    path: str
    name: str
    source: str
    fingerprint: str
    simulated: bool
    stays: dict[str, int] = Field(description="stays per split")
    variables: int


class Session(BaseModel):
    """One process that worked on the run: the first, and one more for every resume."""

    started_at: AwareDatetime
    from_step: int
    pid: int
    host: str
    command: list[str]
    ended_at: AwareDatetime | None = Field(default=None, description="None while it works, and where it left no word")


class Lineage(BaseModel):
    """Where a run with a remedy (`python -m backend resume RUN --remedy NAME`) branched off another."""

    run: str
    checkpoint: str | None = Field(description="file in the other run's checkpoints; None: from the start")
    step: int
    onset: int | None = Field(description="first step of the collapse; None where nobody said")
    verdict: str | None
    remedy: str


class Imported(BaseModel):
    """Where a run came from that another program logged (`python -m backend import`)."""

    path: str
    at: AwareDatetime = Field(default_factory=now)
    files: dict[str, int] = Field(description="event files, with the bytes of each that were read")
    tags: dict[str, str] = Field(description="name in the run to tag in the log, where they differ")
    kl_mean_over: int | None = None


class RunInfo(Record):
    """`run.json`: what the run is and how it stands."""

    name: str
    created_at: AwareDatetime = Field(default_factory=now)
    state: RunState = RunState.CREATED
    state_since: AwareDatetime = Field(default_factory=now)
    error: str | None = None
    config: dict[str, Any]
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = "unknown"
    precision: str = "unknown"
    dataset: DatasetSummary | None = None
    parameters: int | None = Field(default=None, description="trainable parameters")
    max_steps: int | None = Field(default=None, description="optimizer steps planned, when known")
    parent: str | None = Field(default=None, description="checkpoint the weights came from (--init_from)")
    lineage: Lineage | None = None
    sessions: list[Session] = Field(default_factory=list)
    detector: dict[str, float] | None = Field(default=None, description="limits of the verdict rules (shared.collapse)")
    imported: Imported | None = None


class RunNotes(Record):
    """`notes.json`: tags, a note and whether the run is put away; missing until somebody says something."""

    tags: list[str] = Field(default_factory=list)
    note: str = ""
    archived: bool = False


class Heartbeat(Record):
    """`heartbeat.json`: a sign of life, at most a few seconds old while the process works."""

    at: AwareDatetime = Field(default_factory=now)
    pid: int
    host: str
    phase: Literal["starting", "training", "validating", "probing", "saving", "stopped"] = "starting"
    step: int = 0
    epoch: float = 0.0
    max_steps: int | None = None
    steps_per_s: float | None = None
    stays_per_s: float | None = None
    eta_s: float | None = None
    load: "DeviceLoad | None" = None


class DeviceLoad(BaseModel):
    """What the training process takes of its machine, and how busy its GPU is; None where it cannot be told."""

    cpu_cores: float | None = Field(default=None, description="processor seconds per second, over all threads and loaders")
    memory_gb: float | None = Field(default=None, description="resident memory in 10^9 bytes, loader processes included")
    gpu_share: float | None = Field(default=None, description="share of time in which the GPU worked, 0 to 1")
    gpu_memory_gb: float | None = Field(default=None, description="memory of the GPU in use by anybody, in 10^9 bytes")
    gpu_memory_total_gb: float | None = None


EventKind = Literal["state", "resume", "checkpoint", "verdict", "forecast", "remedy", "warning", "error"]


class Event(Record):
    """One line of `events.jsonl`."""

    at: AwareDatetime = Field(default_factory=now)
    step: int
    kind: EventKind
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class CheckpointSidecar(Record):
    """The readable JSON beside each checkpoint."""

    kind: Literal["last", "earlier", "best", "final", "interrupted", "error", "collapse"]
    file: str
    at: AwareDatetime = Field(default_factory=now)
    step: int
    epoch: float
    metrics: dict[str, float | None]
    config: dict[str, Any]
    bytes: int
    sha256: str
