"""Copies between the host's memory and a device's.

Takes a tensor on the host and a device, or the reverse; returns the copy. Knows nothing of models.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a host's tensor on a device, without waiting for the device.

    A copy from pageable memory waits for all that is queued; one from pinned memory is queued too.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """Return a device's tensor in the host's memory; waits for the current stream only."""
    if not tensor.is_cuda:
        return tensor
    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    target.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return target
