"""Training on several devices: which process is which, by whom it was started, and what happens when one of them dies.

Lightning starts the processes of one machine, or finds those that torchrun, SLURM or another launcher it knows has started. What
is added here: they agree on one run folder, and the death of one ends the run as failed, with its rank and its error.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import orjson
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment

from backend.ownership import HELPER_OF
from backend.strategies import WatchedDDP, WatchedLauncher, ddp
from shared.config import TrainConfig
from shared.errors import InputError
from shared.layout import RunLayout
from shared.writer import replace_atomically

GRACE_S = 20.0
"""How long a process may take to notice that another is gone; then it is ended."""
LAST_WORDS_S = 5.0
"""How long the first process waits to hear what another died of, and for the others to end after a failure."""
CONNECTION = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


class RankFailedError(Exception):
    """Another process of the run has failed; the message says which, and of what."""

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(f"rank {rank}: {message}")
        self.rank = rank


@dataclass(frozen=True)
class Rank:
    """This process among those of a run."""

    number: int = 0
    world: int = 1
    external: bool = False
    """Whether a launcher such as torchrun or SLURM started all of them, the first one too."""

    @property
    def first(self) -> bool:
        """Whether it writes the run."""
        return self.number == 0

    def after_first(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, which may write what all read: the first process does it before the others."""
        if self.external and not self.first:
            dist.barrier()
        result = work()
        if self.external and self.first:
            dist.barrier()
        return result

    def agree(self, layout: RunLayout | None) -> Path:
        """The run folder that the first process has opened."""
        told = [str(layout.root) if layout is not None else os.environ.get(HELPER_OF)]
        if self.external:
            dist.broadcast_object_list(told)
        assert told[0] is not None
        os.environ[HELPER_OF] = told[0]
        return Path(told[0])


def join(config: TrainConfig, accelerator: str) -> Rank:
    """Find out which process this is; processes that a launcher started have found each other when it returns.

    Raises:
        InputError: the number of processes is not the one asked for.
    """
    devices, nodes = config.trainer.devices, config.trainer.num_nodes
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if devices * nodes == 1:
        if started > 1 and "RANK" in os.environ:
            raise InputError(
                f"trainer.devices: 1, and a launcher started {started} processes; give --devices (processes on a machine) "
                "and --num_nodes (machines)"
            )
        return Rank()
    trainer = L.Trainer(
        accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=ddp(accelerator), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    strategy = trainer.strategy
    assert isinstance(strategy, WatchedDDP) and strategy.cluster_environment is not None
    environment = strategy.cluster_environment
    if isinstance(environment, LightningEnvironment):
        if nodes > 1:
            raise InputError(f"trainer.num_nodes: {nodes} machines need a launcher; start this with torchrun or srun on each")
        number = environment.local_rank()
        if number:
            threading.Thread(target=_end_with_parent, args=(os.getppid(),), name="parent", daemon=True).start()
        return Rank(number, devices)
    try:
        environment.validate_settings(num_devices=devices, num_nodes=nodes)
    except ValueError as error:
        raise InputError(
            f"trainer.devices: {devices} on trainer.num_nodes: {nodes} is not what was started: {error}"
        ) from error
    strategy.setup_environment()
    return Rank(strategy.global_rank, strategy.world_size, external=True)


def _end_with_parent(parent: int) -> None:
    """A first process that was killed takes the others with it, whatever they wait for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Companions:
    """The other processes of a run, as its first one sees them; on the others, this one's last words.

    A context around the training. Where it leaves with an error that is only the echo of another process's, `RankFailedError`
    takes its place. No process is left behind. `on_hang` is called, from a thread, when a process has died and this one has not
    noticed for `GRACE_S`: to leave the run in order before the end.
    """

    def __init__(self, rank: Rank, layout: RunLayout, on_hang: Callable[[RankFailedError], None]) -> None:
        self.rank = rank
        self.layout = layout
        self.on_hang = on_hang
        self.trainer: L.Trainer | None = None
        self._left = threading.Event()

    def __enter__(self) -> "Companions":
        if self.rank.first and self.rank.world > 1:
            for number in range(1, self.rank.world):
                self.layout.last_words(number).unlink(missing_ok=True)
            threading.Thread(target=self._watch, name="companions", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._left.set()
        if self.rank.world == 1:
            return
        if isinstance(error, Exception) and not self.rank.first:
            self._say(error)
            return
        failed = self._cause() if isinstance(error, Exception) and is_echo(error) else None
        self._reap(GRACE_S if error is None else LAST_WORDS_S)
        if failed is not None:
            raise failed from error

    @property
    def _children(self) -> list[subprocess.Popen]:
        launcher = self.trainer.strategy.launcher if self.trainer is not None else None
        return launcher.procs if isinstance(launcher, WatchedLauncher) else []

    def _say(self, error: Exception) -> None:
        """Leave word of what this process dies of, unless that is only that another did."""
        if not is_echo(error):
            words = {"error": f"{type(error).__name__}: {error}", "pid": os.getpid(), "host": socket.gethostname()}
            replace_atomically(self.layout.last_words(self.rank.number), orjson.dumps(words))

    def _cause(self) -> RankFailedError | None:
        """Who died first, and of what; None when that cannot be found out."""
        until = time.monotonic() + LAST_WORDS_S
        while time.monotonic() < until:
            found = self._heard() or self._killed()
            if found is not None:
                return found
            time.sleep(0.05)
        return None

    def _heard(self) -> RankFailedError | None:
        for number in range(1, self.rank.world):
            path = self.layout.last_words(number)
            if path.exists():
                words = orjson.loads(path.read_bytes())
                path.unlink(missing_ok=True)
                return RankFailedError(number, f"{words['error']} (process {words['pid']} on {words['host']})")
        return None

    def _killed(self) -> RankFailedError | None:
        for number, child in enumerate(self._children, start=1):
            status = child.poll()
            if status is not None and status < 0:
                return RankFailedError(number, f"process {child.pid} was ended by {signal.Signals(-status).name}")
        return None

    def _watch(self) -> None:
        """End a process that waits for a dead one and cannot notice, as with NCCL."""
        while not self._left.wait(0.5):
            if any(child.poll() for child in self._children) and not self._left.wait(GRACE_S):
                cause = self._heard() or self._killed() or RankFailedError(1, "ended without a word")
                self.on_hang(cause)
                self._reap(0.0)
                os._exit(1)

    def _reap(self, patience: float) -> None:
        """Wait for the processes that were started here; after a failure they get a moment to end by themselves."""
        for child in self._children:
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def is_echo(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in CONNECTION)


def device_count_name(name: str, rank: Rank) -> str:
    """The devices of a run as a person knows them."""
    return name if rank.world == 1 else f"{rank.world} processes, each on {name}"


def threads_of(config: TrainConfig, accelerator: str) -> int:
    """Threads of this process: as asked for, else its part of all cores but one."""
    processes = config.trainer.devices if accelerator == "cpu" else 1
    return config.trainer.cpu_threads or max(((os.cpu_count() or 1) - 1) // processes, 1)


def use_threads(count: int, rank: Rank) -> None:
    """Of torch, also where Lightning would choose another number for several processes."""
    torch.set_num_threads(count)
    if rank.world > 1:
        os.environ["OMP_NUM_THREADS"] = str(count)
