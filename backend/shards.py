"""A module in shards: with FSDP each process keeps a part of every parameter, and only the block at work is whole.

Tensors outside of a block's own forward pass are made whole by `full`, on every process at once: it gathers.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from backend.layers import ATTENTION_BLOCKS

DECODER_CALLS = ("loss", "error", "reconstruct", "occurrence")


def shard(module: Any, mesh: DeviceMesh) -> None:
    """Spread the parameters of a `SeqSetVAEModule`, the same on all processes, over them by PyTorch's FSDP2, in place."""
    net = module.net
    # the blocks one at a time; the rest of a part of the network with the part
    parts: list[nn.Module] = [net.encoder.embed, net.encoder, net.sequence, net.decoder, net.classifier]
    if net.classifier.measured is not None:
        parts.insert(0, net.classifier.measured)
    if net.to_decoder is not None:
        parts.append(net.to_decoder)
    for part in [*(m for m in net.modules() if isinstance(m, ATTENTION_BLOCKS)), *parts]:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
        if mesh.device_type == "cpu":  # gloo has no mean: asked for one, it gives the sum (pytorch/pytorch#162338)
            cast(FSDPModule, part).set_force_sum_reduction_for_comms(True)
    for name in DECODER_CALLS:
        register_fsdp_forward_method(net.decoder, name)
    if module.log_variance is not None:
        # its gradient is that of sums over all processes, the same on each: there is nothing to reduce
        spread = distribute_tensor(module.log_variance.detach(), mesh, [Shard(0)], src_data_rank=None)
        module.log_variance = nn.Parameter(spread)


def is_sharded(module: nn.Module) -> bool:
    """Whether a forward pass of this module takes all processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be in shards, differentiable."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def as_sharded(value: Any, like: Tensor) -> Any:
    """A whole value, known to every process, in shards where a tensor of its shape, such as its parameter, is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def gathered(value: Any, keep: bool) -> Any:
    """A tensor that is in shards whole, on the CPU, also inside dictionaries; the rest as it is.

    All processes take part; one that does not `keep` it has no tensor to show for it.
    """
    if isinstance(value, dict):
        return {name: gathered(inner, keep) for name, inner in value.items()}
    if not isinstance(value, DTensor):
        return value
    whole = full(value.detach())
    return whole.cpu() if keep else None


def load_sharded(module: nn.Module, state: dict[str, Tensor], strict: bool = True) -> None:
    """Take over a state dictionary of whole tensors."""
    own = module.state_dict()
    module.load_state_dict(
        {name: as_sharded(value, own[name]) if name in own else value for name, value in state.items()}, strict
    )


def sharded_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer, saved whole, in shards like the parameters that this one has."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    spread = {
        number: {name: as_sharded(value, parameters[number]) for name, value in of_one.items()}
        for number, of_one in state["state"].items()
    }
    return {**state, "state": spread}
