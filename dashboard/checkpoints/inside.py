"""What is in a checkpoint, as a page shows it: hyperparameters, the state of training, tensors by what they belong to."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.errors import InputError
from shared.torch_file import Identity, Named, TorchFile, children_of, label, open_torch_file
from shared.torch_objects import Opaque, Tensor

Part = Literal["weights", "optimizer", "other"]
PARTS: dict[Part, str] = {"weights": "weights", "optimizer": "optimizer", "other": "other"}
WEIGHTS = {"state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "generator"}
HYPERPARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters", "hparams", "config", "cfg", "args")
"""Where Lightning, and what people write by hand, keep them."""
RUNS_PROGRAMS = {
    "os", "posix", "nt", "subprocess", "sys", "builtins", "__builtin__", "importlib", "runpy", "shutil", "socket", "pty", "code",
    "ctypes", "webbrowser", "pip", "commands", "multiprocessing", "pickle", "torch.hub", "cProfile", "pdb", "timeit",
}  # fmt: skip
MOST_VALUES, MOST_DEPTH, MOST_LETTERS = 2000, 8, 200
REMEMBERED = 24


@dataclass(frozen=True)
class Place:
    """What a tensor belongs to, and its name there."""

    part: Part
    name: str


@dataclass(frozen=True)
class Inside:
    """A checkpoint without its values."""

    identity: Identity
    ours: bool
    """Written by this program, which can then resume and analyse it."""
    settled: bool
    """False where it was saved in the middle of a step, and cannot be gone on with."""
    step: int | None
    epoch: float | None
    hyperparameters: dict[str, str]
    """Dotted name to value, in the file's order; the part before the first dot is the group."""
    state: dict[str, str]
    """Counters, learning rates and versions at the time of saving, likewise."""
    tensors: dict[Place, Tensor]
    calls: tuple[str, ...]
    """What unpickling would call beside what torch itself writes."""

    @property
    def dangerous(self) -> list[str]:
        """Those of the calls that can run programs."""
        return [name for name in self.calls if name.split(".")[0] in RUNS_PROGRAMS or name.rpartition(".")[0] in RUNS_PROGRAMS]

    def count(self, part: Part) -> int:
        """How many values a part has."""
        return sum(tensor.values for place, tensor in self.tensors.items() if place.part == part)


class Shelf:
    """The newest few checkpoints looked into, and the errors of those that could not be. For any thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[Identity, Inside | InputError] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, path: Path, identity: Identity) -> Inside:
        """What is in a file; read once as long as it stays the same.

        Raises:
            InputError: not readable as a checkpoint.
        """
        with self._lock:
            found = self._found.get(identity)
            if found is None:
                try:
                    with open_torch_file(path) as file:
                        found = describe(file)
                        identity = file.identity
                except InputError as error:
                    if isinstance(error.__cause__, OSError):  # rights and disks get mended without the file changing
                        raise
                    found = error
                self._found[identity] = found
            self._found.move_to_end(identity)
            while len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        if isinstance(found, InputError):
            raise found
        return found


def describe(file: TorchFile) -> Inside:
    """What is in an open checkpoint."""
    root = file.contents.value
    top: Mapping[Any, Any] = root if isinstance(root, dict) else {}
    kept = top.get("seqsetvae")
    own: Mapping[Any, Any] = kept if isinstance(kept, dict) else {}
    step, epoch = top.get("global_step"), own.get("epoch", top.get("epoch"))
    return Inside(
        identity=file.identity,
        ours=bool(own) and "state_dict" in top,
        settled=own.get("settled", True) is not False,
        step=step if type(step) is int else None,
        epoch=float(epoch) if isinstance(epoch, int | float) else None,
        hyperparameters=flat(_hyperparameters(top, own)),
        state=flat(_state(top, own)),
        tensors=places(file.tensors),
        calls=file.contents.calls,
    )


def _hyperparameters(top: Mapping[Any, Any], own: Mapping[Any, Any]) -> dict[Any, Any]:
    if isinstance(own.get("config"), dict):
        return dict(own["config"])
    found = [(name, dict(children_of(top[name]))) for name in HYPERPARAMETERS if isinstance(top.get(name), dict | Opaque)]
    found = [(name, values) for name, values in found if values]
    return found[0][1] if len(found) == 1 else dict(found)


def _state(top: Mapping[Any, Any], own: Mapping[Any, Any]) -> dict[str, Any]:
    """What the training had reached: all plain values at the top, our own, and the optimizers' settings."""
    state: dict[str, Any] = {label(key): value for key, value in top.items() if isinstance(value, str | int | float | None)}
    state |= {label(key): value for key, value in own.items() if key != "config"}
    optimizers = top.get("optimizer_states", [])
    for number, optimizer in enumerate(optimizers if isinstance(optimizers, list) else []):
        groups = optimizer.get("param_groups") if isinstance(optimizer, dict) else None
        for at, group in enumerate(groups if isinstance(groups, list) else []):
            if isinstance(group, dict):
                state[f"optimizer {number}, group {at}"] = {key: value for key, value in group.items() if key != "params"}
    return state


def places(tensors: list[Named]) -> dict[Place, Tensor]:
    """Each tensor under what it belongs to: weights first, then the optimizer's, then others, each in the file's order."""
    found = {place_of(named.path): named.tensor for named in tensors}
    return {place: tensor for part in PARTS for place, tensor in found.items() if place.part == part}


def place_of(path: tuple[str, ...]) -> Place:
    """Weights lie in a bare dictionary of tensors, or under one of the names that people give it."""
    if len(path) < 2:
        return Place("weights", path[0] if path else "the only tensor")
    if "optim" in path[0].lower():
        return Place("optimizer", ".".join(path[1:] if path[0] == "optimizer_states" else path))
    if path[0] in WEIGHTS:
        return Place("weights", ".".join(path[1:]))
    return Place("other", ".".join(path))


def flat(value: Any) -> dict[str, str]:
    """Nested plain data as dotted names and short texts; at most 2,000 of them."""
    return dict(found for found, _ in zip(_leaves("", value, 0), range(MOST_VALUES), strict=False))


def _leaves(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    named = value if isinstance(value, dict) else value.items if isinstance(value, Opaque) else {}
    if not named or depth >= MOST_DEPTH:
        if prefix:
            yield prefix, in_words(value)
        return
    for key, inner in named.items():
        yield from _leaves(f"{prefix}.{label(key)}" if prefix else label(key), inner, depth + 1)


def in_words(value: Any) -> str:
    """A plain value in a line; what was not read says so."""
    if isinstance(value, Tensor):
        return f"tensor {'×'.join(map(str, value.shape)) or 'of one value'}"
    if isinstance(value, Opaque):
        return _shortened(
            f"{value.name}({', '.join(in_words(part) for part in value.args[:4] if not _nested(part))}), not read"
        )
    if isinstance(value, list | tuple):
        more = ", …" if len(value) > 12 else ""
        return _shortened(f"[{', '.join('…' if _nested(part) else in_words(part) for part in value[:12])}{more}]")
    if isinstance(value, dict):
        return "{}" if not value else f"{{… {len(value)} values}}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return "none" if value is None else _shortened(f"{value:.6g}" if isinstance(value, float) else str(value))


def _nested(value: Any) -> bool:
    return isinstance(value, list | tuple | dict | Opaque)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"
