"""What a device reaches at best: the roof over every measured speed."""

import time
from collections.abc import Callable

import torch


def now() -> float:
    """Seconds, once the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def attainable(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Floating-point operations per second of a large matrix product, and bytes per second of a large copy."""
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    return 2 * size**3 / best(lambda: a @ b), 2 * source.numel() * 4 / best(lambda: target.copy_(source))


def best(run: Callable[[], object], repeats: int = 7) -> float:
    """Least seconds of several."""
    spent = []
    for _ in range(repeats):
        began = now()
        run()
        spent.append(now() - began)
    return min(spent)
