"""Norms of all tensors of a checkpoint, and the difference between two: what a page asks for and the background works out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dashboard.checkpoints.inside import Place, places
from dashboard.checkpoints.work import CheckpointWork, Report, Task
from shared.torch_file import Identity, Named, TorchFile, open_torch_file
from shared.torch_objects import Tensor
from shared.torch_values import Distance, Norms, check_effort, distance, norms, readable

T = TypeVar("T")
Source = tuple[Path, Identity]
"""A file to read and its identity, under which the result is kept."""


@dataclass(frozen=True)
class Difference:
    """What became of each tensor of checkpoint a in checkpoint b."""

    only_a: dict[Place, Tensor]
    only_b: dict[Place, Tensor]
    reshaped: dict[Place, tuple[Tensor, Tensor]]
    unread: list[Place]
    """Of a kind of number that cannot be read here."""
    distances: dict[Place, Distance]

    @property
    def changed(self) -> dict[Place, Distance]:
        """Those with another value somewhere, the largest relative change first."""
        moved = {place: apart for place, apart in self.distances.items() if apart.differing}
        return dict(sorted(moved.items(), key=lambda item: -item[1].relative))

    @property
    def equal(self) -> int:
        """How many are the same in every value."""
        return sum(apart.differing == 0 for apart in self.distances.values())


def ask_norms(work: CheckpointWork, source: Source) -> Task[dict[Place, Norms]]:
    """The norms of a file; begun unless they are known."""
    return work.values.ask(("norms", source[1]), lambda report: measure(source[0], report))


def ask_difference(work: CheckpointWork, a: Source, b: Source) -> Task[Difference]:
    """The difference of two files; begun unless it is known."""
    return work.values.ask(("difference", a[1], b[1]), lambda report: compare(a[0], b[0], report))


def measure(path: Path, report: Report) -> dict[Place, Norms]:
    """Norms of every tensor whose kind of number can be read.

    Raises:
        InputError: not readable as a checkpoint.
    """
    with open_torch_file(path) as file:
        tensors = _readable(file)
        progress = _Progress(report, sum(tensor.bytes for tensor in tensors.values()))
        return {place: progress.add(tensor, norms(file, tensor)) for place, tensor in tensors.items()}


def compare(path_a: Path, path_b: Path, report: Report) -> Difference:
    """The difference of two checkpoints, tensor by tensor under the same name.

    Raises:
        InputError: one of them is not readable as a checkpoint.
    """
    with open_torch_file(path_a) as file_a, open_torch_file(path_b) as file_b:
        a, b = places(file_a.tensors), places(file_b.tensors)
        known_a, known_b = _readable(file_a), _readable(file_b)
        both = [place for place in a if place in b]
        same = [place for place in both if a[place].shape == b[place].shape]
        wanted = [place for place in same if place in known_a and place in known_b]
        progress = _Progress(report, sum(a[place].bytes for place in wanted))
        return Difference(
            only_a=_without(a, b), only_b=_without(b, a),
            reshaped={place: (a[place], b[place]) for place in both if a[place].shape != b[place].shape},
            unread=[place for place in same if place not in wanted],
            distances={place: progress.add(a[place], distance(file_a, a[place], file_b, b[place])) for place in wanted},
        )  # fmt: skip


def _without(these: Mapping[Place, Tensor], those: Mapping[Place, Tensor]) -> dict[Place, Tensor]:
    return {place: tensor for place, tensor in these.items() if place not in those}


def _readable(file: TorchFile) -> dict[Place, Tensor]:
    tensors: list[Named] = [named for named in file.tensors if readable(named)]
    check_effort(file, tensors)
    return places(tensors)


class _Progress:
    """Reports the share of the bytes that are done."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, max(total, 1), 0

    def add(self, tensor: Tensor, result: T) -> T:
        """Count a tensor as done; gives its result back."""
        self._done += tensor.bytes
        self._report(self._done / self._total)
        return result
