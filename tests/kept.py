"""What a forward pass keeps for its backward pass."""

import torch

from backend.batches import Batch
from backend.lit import SeqSetVAEModule


def kept_for_backward(module: SeqSetVAEModule, batch: Batch) -> tuple[int, list[torch.Tensor]]:
    """Bytes besides weights that a step's forward pass leaves for its backward pass, and the gradients."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    stores: dict[int, torch.UntypedStorage] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        stores[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = module.training_step(batch, 0)["loss"]
    kept = sum(store.nbytes() for place, store in stores.items() if place not in weights)
    loss.backward()
    return kept, [p.grad for p in module.parameters() if p.grad is not None]
