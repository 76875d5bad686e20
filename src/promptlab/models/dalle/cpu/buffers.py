"""Memory that is allocated once and lent again.

Takes shapes, returns tensors [row, column, channel] on the CPU. A fresh allocation of megabytes
costs more than most of what is computed in it: the system hands it out page by page.
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
        """Take tensors back that nobody will read any more."""
        for tensor in tensors:
            self._free.setdefault((tuple(tensor.shape), tensor.dtype), []).append(tensor)

    def framed(self, height: int, width: int, channels: int, dtype: torch.dtype) -> Tensor:
        """Return [height, width + 2, channels] whose first and last column are zeros.

        The same tensor for the same shape every time: to be read before the next is asked for,
        and written between its two columns only.
        """
        shape = (height, width + 2, channels)
        if (shape, dtype) not in self._framed:
            self._framed[shape, dtype] = torch.zeros(shape, dtype=dtype)
        return self._framed[shape, dtype]
