"""A CUDA device's memory: what it has, what is free, and how to free more.

Asks the device and torch's allocator. Knows nothing of models.
"""

from __future__ import annotations

import torch


def total_bytes() -> int:
    """Return the card's memory."""
    return int(torch.cuda.mem_get_info()[1])


def free_bytes() -> int:
    """Return what a new allocation may take: the driver's free memory and torch's own."""
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0]) + unused


def release_unused() -> None:
    """Return the memory of dropped tensors and graphs to the driver, once nothing uses it."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
