"""Memory that is allocated once and reused.

Takes shapes, returns tensors [row, column, channel] on the CPU. A fresh allocation of megabytes
costs more than most computations in it: the system provides it page by page. Knows nothing of
images.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Buffers:
    """Tensors by shape, lent and given back."""

    def __init__(self) -> None:
        self._free: dict[tuple[tuple[int, ...], torch.dtype], list[Tensor]] = {}
        self._framed: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}

    def take(self, height: int, width: int, channels: int, dtype: torch.dtype) -> Tensor:
        """Return [height, width, channels] with any content."""
        shape = (height, width, channels)
        free = self._free.setdefault((shape, dtype), [])
        return free.pop() if free else torch.empty(shape, dtype=dtype)

    def give(self, *tensors: Tensor) -> None:
        """Take tensors back that are no longer read."""
        for tensor in tensors:
            self._free.setdefault((tuple(tensor.shape), tensor.dtype), []).append(tensor)

    def framed(self, height: int, width: int, channels: int, dtype: torch.dtype) -> Tensor:
        """Return [height, width + 2, channels] whose first and last column are zeros.

        Returns the same tensor for the same shape every time: read it before the next call, and
        write only between its two columns.
        """
        shape = (height, width + 2, channels)
        if (shape, dtype) not in self._framed:
            self._framed[shape, dtype] = torch.zeros(shape, dtype=dtype)
        return self._framed[shape, dtype]
