"""Lightning's strategies for several processes, DDP and FSDP, as this program needs them."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, ParallelStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.optim import Optimizer

from backend.shards import gathered, load_sharded, sharded_optimizer_state
from backend.token_batches import world_of
from shared.config import TrainConfig


def strategy_of(config: TrainConfig, accelerator: str) -> "str | WatchedDDP | WatchedFSDP":
    """Lightning's strategy: what `trainer.strategy` says where there are several processes."""
    world = world_of(config)
    if world == 1:
        return "auto"
    if config.trainer.strategy == "fsdp":
        return WatchedFSDP(world, process_group_backend=_backend(accelerator))
    return ddp(accelerator)


def ddp(accelerator: str) -> "WatchedDDP":
    """DDP; its buffers are the same on all processes as they are."""
    return WatchedDDP(process_group_backend=_backend(accelerator), forward_sync_buffers=False)


def _backend(accelerator: str) -> str | None:
    return "gloo" if accelerator == "cpu" else None


class WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the processes as Lightning does, without its observer."""

    def launch(self, function: Callable, *args: Any, trainer: L.Trainer | None = None, **kwargs: Any) -> Any:
        """See Lightning."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class WatchedDDP(DDPStrategy):
    """DDP whose first process is not killed when another one dies, as Lightning's is: it has a run to end. See `Companions`."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = WatchedLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class WatchedFSDP(ModelParallelStrategy):
    """FSDP on all processes, watched like `WatchedDDP`. The module shards itself (`configure_model`).

    Checkpoints are whole and the same files as without FSDP, parameters in the optimizer's own order: any number of processes
    goes on from them, with either strategy. All processes gather them, the first writes.
    """

    def __init__(self, world: int, process_group_backend: str | None) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, process_group_backend=process_group_backend)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = WatchedLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """The module is in shards before."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """By `load_optimizer_state_dict`, after callbacks have had a look."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights."""
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict()
        for name, value in state.items():
            state[name] = gathered(value, self.is_global_zero)
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Of whole weights, each process keeps its part."""
        assert self.lightning_module is not None
        load_sharded(self.lightning_module, checkpoint["state_dict"], strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole moments."""
        own = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return gathered(own.state_dict(), self.is_global_zero)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Of whole moments, each process keeps its part."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(sharded_optimizer_state(optimizer, state))

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """One file, by the first process."""
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The file, on every process."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)
