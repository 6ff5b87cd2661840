"""How long training waits for its batches."""

import time
from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.utils.data import DataLoader


class WatchedLoader(DataLoader):
    """A DataLoader that adds up how long whoever draws from it has waited: for a worker, or for its own collating without one."""

    waited_s: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = None
        while True:
            began = time.perf_counter()
            try:
                batches = batches or super().__iter__()
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited_s += time.perf_counter() - began
            yield batch


def waited(trainer: L.Trainer) -> float | None:
    """Seconds that the training loader has been waited for so far; None of a loader that is not watched."""
    loader = trainer.train_dataloader
    return loader.waited_s if isinstance(loader, WatchedLoader) else None
