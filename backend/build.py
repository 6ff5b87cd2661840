"""Making the module and the trainer that a configuration describes, on the device there is."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from backend.batches import StayDataset
from backend.checkpoints import AtomicCheckpointIO, load_checkpoint
from backend.layers import ATTENTION_BLOCKS, AttentionPool, FeedForward
from backend.lit import SeqSetVAEModule
from backend.store import PreparedDataset
from backend.strategies import strategy_of
from backend.token_batches import world_of
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.errors import InputError


def build_module(config: TrainConfig, data: PreparedDataset, total_steps: int) -> SeqSetVAEModule:
    """A fresh module for a data set; weights depend on the seed alone."""
    torch.manual_seed(config.trainer.seed)
    modelled = torch.tensor([v.std is not None and not v.constant for v in data.info.variables])
    labels = StayDataset(data, "train", config.data).labels
    positive, known = float(np.nansum(labels)), int((~np.isnan(labels)).sum())
    weight = (known - positive) / positive if positive else 1.0
    module = SeqSetVAEModule(config, modelled, embeddings(data), total_steps=total_steps, positive_weight=weight)
    if config.trainer.compile_model:
        compile_dense_parts(module.net)
    if config.trainer.gradient_checkpointing:
        recompute_blocks(module.net)
    return module


def compile_dense_parts(net: torch.nn.Module, backend: str = "inductor") -> None:
    """torch.compile for the row-wise blocks (feed-forwards, heads, embeddings), which are most of the arithmetic.

    They see flat rows only, so that one graph serves every batch. Attention works on blocks whose shapes change with every
    batch and stays with PyTorch's own fused kernels: compiled whole, the network would be compiled anew all the time.
    """
    for part in net.modules():
        if isinstance(part, FeedForward | torch.nn.Sequential):
            part.compile(dynamic=True, backend=backend)


def recompute_blocks(net: torch.nn.Module) -> None:
    """Gradient checkpointing (Chen et al. 2016): of each block only the input is kept, and the backward pass runs it again.

    Dropout draws the same again. The loss and the gradients are those of the plain network.
    """
    for part in net.modules():
        if isinstance(part, (*ATTENTION_BLOCKS, AttentionPool)):
            part.forward = partial(checkpoint, part.forward, use_reentrant=False)  # type: ignore[method-assign]


def embeddings(data: PreparedDataset) -> torch.Tensor | None:
    """The source's embeddings [V, D]; a variable without one gets a fixed random vector of the same typical length."""
    if data.embeddings is None:
        return None
    table = np.array(data.embeddings, np.float32)
    missing = np.isnan(table).any(axis=1)
    table[missing] = np.random.default_rng(0).normal(0, np.nanstd(table), (int(missing.sum()), table.shape[1]))
    return torch.from_numpy(table)


def load_weights(module: SeqSetVAEModule, path: Path) -> list[str]:
    """Take over every weight that fits by name and shape (`--init_from`); returns the names that did not.

    Raises:
        InputError: less than half of its encoder fits: another vocabulary or other sizes.
    """
    loaded = load_checkpoint(path, needs=("config",))
    given, own = loaded["state_dict"], module.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if loaded["seqsetvae"]["config"]["trainer"]["stage"] != module.config.trainer.stage:
        fitting.pop("log_variance", None)  # weights of terms that another stage had
    encoder = [name for name in given if name.startswith("net.encoder")]
    fits = sum(given[name].numel() for name in encoder if name in fitting)
    if 2 * fits < sum(given[name].numel() for name in encoder) or not encoder:
        raise InputError(f"{path}: the encoder's weights do not fit this model; is it of other sizes or another vocabulary?")
    module.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def module_from_checkpoint(path: Path, data: PreparedDataset) -> SeqSetVAEModule:
    """The trained module in a checkpoint.

    Raises:
        InputError: not a checkpoint of this program, or for another data set.
    """
    loaded = load_checkpoint(path)
    config = build_config(loaded["seqsetvae"]["config"], where=str(path))
    module = build_module(config, data, total_steps=1)
    try:
        module.load_state_dict(loaded["state_dict"])
        module.trained_steps = loaded["global_step"]
        module.steered = loaded["seqsetvae"].get("steered", {})
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit data set {data.info.name!r} ({str(error).splitlines()[-1].strip()})") from error
    return module


def accelerator_of(config: TrainConfig) -> str:
    """'gpu' or 'cpu'.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    wanted = config.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise InputError("trainer.accelerator: 'gpu' asked for, but torch sees no CUDA device; use --accelerator cpu")
    return "gpu" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def precision_of(config: TrainConfig, accelerator: str) -> str:
    """Lightning's name of the precision.

    Raises:
        InputError: half precision on a CPU, where it is slower and 16-mixed does not train; 16-mixed with FSDP.
    """
    wanted = config.trainer.precision
    if accelerator == "cpu":
        if wanted in ("16-mixed", "bf16-mixed"):
            raise InputError(f"trainer.precision: {wanted!r} needs a GPU and this run is on the CPU; use --precision 32")
        return "32-true"
    if wanted == "auto":
        wanted = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if wanted == "16-mixed" and config.trainer.strategy == "fsdp" and world_of(config) > 1:
        raise InputError("trainer.precision: FSDP does not train in 16-mixed; use --precision bf16-mixed or 32")
    return "32-true" if wanted == "32" else wanted


def device_name(accelerator: str) -> str:
    """The device as a person knows it."""
    return (
        torch.cuda.get_device_name()
        if accelerator == "gpu"
        else f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    )


def build_trainer(config: TrainConfig, accelerator: str, callbacks: list[L.Callback], **options: Any) -> L.Trainer:
    """Lightning's trainer with our checkpoints, log and progress in place of its own."""
    return L.Trainer(
        accelerator=accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=strategy_of(config, accelerator),
        precision=precision_of(config, accelerator),  # type: ignore[arg-type]
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )
