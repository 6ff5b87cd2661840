"""Whether a checkpoint's file is the one that its sidecar describes, what that means, and what to do."""

from dataclasses import dataclass
from enum import StrEnum

from dashboard.checkpoints.listing import Checkpoint, Fault
from dashboard.checkpoints.work import CheckpointWork, Task


class Hash(StrEnum):
    """The states of a check."""

    UNCHECKED = "unchecked"
    CHECKING = "checking"
    OK = "ok"
    DIFFERS = "differs"
    NO_SIDECAR = Fault.NO_SIDECAR.value
    BAD_SIDECAR = Fault.BAD_SIDECAR.value
    UNREADABLE = Fault.UNREADABLE.value
    GONE = Fault.GONE.value


REMEDIES: dict[Hash, str] = {
    Hash.DIFFERS: "Do not go on from it: restore it from a copy, or take another checkpoint. If it is last.ckpt and training was "
    "killed while it was being replaced, the file is whole and only its description is too new: resuming the run mends that.",
    Hash.NO_SIDECAR: "It can be looked into and loaded, but nothing tells whether it is whole. Restore the .json from a copy if there "
    "is one.",
    Hash.BAD_SIDECAR: "Restore the .json from a copy, or delete it: the checkpoint itself may be sound.",
    Hash.UNREADABLE: "Restore it from a copy, or mend its permissions.",
    Hash.GONE: "Restore it from a copy, or delete the .json that is left.",
}
"""What to do about what is wrong."""


@dataclass(frozen=True)
class Check:
    """The state of one check."""

    state: Hash
    words: str
    share: float = 0.0
    """How much has been read while it is checked, from 0 to 1."""

    @property
    def remedy(self) -> str | None:
        """What to do; None where nothing is wrong."""
        return REMEDIES.get(self.state)


def check(one: Checkpoint, task: Task[str] | None) -> Check:
    """How a file stands against its sidecar; `task` is the reading of its bytes, if one was begun."""
    if one.fault is not None or one.sidecar is None or one.identity is None:
        return Check(Hash((one.fault or Fault.NO_SIDECAR).value), one.problem)
    size, told = one.identity[2], one.sidecar
    if size != told.bytes:
        return Check(Hash.DIFFERS, f"the file has {size:,} bytes, its sidecar says {told.bytes:,}")
    if task is None:
        return Check(Hash.UNCHECKED, "the size is right; the bytes have not been compared")
    if task.result is None:
        return (
            Check(Hash.UNREADABLE, task.problem) if task.problem else Check(Hash.CHECKING, f"{task.share:.0%} read", task.share)
        )
    if task.result != told.sha256:
        return Check(Hash.DIFFERS, f"its sha256 begins {task.result[:12]}, its sidecar says {told.sha256[:12]}")
    return Check(Hash.OK, f"the bytes are those that were written: sha256 {task.result[:12]}…")


def unchecked(found: list[Checkpoint], work: CheckpointWork) -> list[Checkpoint]:
    """Those whose bytes can be compared and have not been, or could not be read; names of the same bytes count once."""
    open_ones = []
    for one in found:
        task = work.known_hash(one.identity)
        state = check(one, task).state
        if state is Hash.UNCHECKED or (state is Hash.UNREADABLE and one.fault is None):
            open_ones.append(one)
    return list({one.identity: one for one in open_ones}.values())
