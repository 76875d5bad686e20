"""A CUDA device's memory: what is free, how to keep some, and how to free more.

Asks the device and torch's allocator. Knows nothing of models.
"""

from __future__ import annotations

import torch


def free_bytes() -> int:
    """Return what a new allocation may take: the driver's free memory and torch's own."""
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0]) + unused


def bytes_outside_torch() -> int:
    """Return what context, libraries, captured graphs and other programs hold."""
    free, total = torch.cuda.mem_get_info()
    return int(total - free - torch.cuda.memory_reserved())


def reserve(num_bytes: int) -> None:
    """Let torch's allocator hold so much for the current stream; what is held already counts."""
    torch.empty(num_bytes, dtype=torch.uint8, device="cuda")


def release_unused() -> None:
    """Return the memory of dropped tensors and graphs to the driver, once nothing uses it."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
