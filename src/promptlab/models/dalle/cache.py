"""The keys and values of the image tokens sampled so far, laid out for one query a row.

Takes each step's keys and values of every layer; returns the filled prefix, rounded up. Knows of
attention only the memory layout that its CPU kernels read fastest.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from promptlab.models.dalle.network import Decoder

PREFIX_STEP = 16  # attention runs over the filled prefix, rounded up to a multiple of this


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values of the filled prefix, a matrix a row and head, without gaps."""

    settled_keys: Tensor  # [row * head, head width, position]: all but the last PREFIX_STEP
    recent_keys: Tensor  # [row * head, head width, position]: the last PREFIX_STEP
    values: Tensor  # [row * head, position, head width]


class Cache:
    """Keys and values of all image tokens so far, allocated once and used by block after block.

    Kernels are fastest on contiguous memory, so each layer's matrices are copied to a larger layout
    as the prefix grows. Keys are stored with their positions side by side, the layout of bags.py;
    the last PREFIX_STEP keys have a matrix of their own, and are copied to the others together.
    Positions behind the prefix hold finite numbers of an earlier block, which attention masks.
    """

    def __init__(self, decoder: Decoder, num_images: int):
        self.num_images, self.num_rows = num_images, 2 * num_images
        self.num_heads = decoder.num_heads
        self._head_width = decoder.width // decoder.num_heads
        numbers = self.num_rows * decoder.width * _rounded_up(decoder.num_steps)
        recent = self.num_rows * decoder.width * PREFIX_STEP

        def zeros(size: int) -> Tensor:
            return torch.zeros(size, dtype=decoder.dtype, device=decoder.device)

        num_layers = len(decoder.layers)
        self._recent = [zeros(recent) for _ in range(num_layers)]
        # Each layer's settled keys, each layer's values, and a free one: the first moves into it,
        # the second into the place of the first, and so on. Views share the list.
        self._memory = [zeros(numbers) for _ in range(2 * num_layers + 1)]
        self._lay_out(PREFIX_STEP)

    def narrowed(self, num_images: int) -> Cache:
        """Return an empty cache for a smaller block, in the same memory."""
        view = copy.copy(self)
        view.num_images, view.num_rows = num_images, 2 * num_images
        view._lay_out(PREFIX_STEP)
        return view

    def hold(self, num_filled: int) -> None:
        """Make room for `num_filled` positions, one more than before; keep those already filled."""
        if num_filled <= self.length:
            return
        before, length = self.layers, self.length
        self._memory.insert(0, self._memory.pop())
        self._lay_out(_rounded_up(num_filled))
        for old, new in zip(before, self.layers, strict=True):  # first: into the free memory
            new.settled_keys[:, :, : length - PREFIX_STEP] = old.settled_keys
            new.settled_keys[:, :, length - PREFIX_STEP :] = old.recent_keys
        for old, new in zip(before, self.layers, strict=True):
            new.values[:, :length] = old.values

    def clear(self) -> None:
        """Overwrite all memory with zeros."""
        for memory in (*self._memory, *self._recent):
            memory.zero_()

    def write(self, layer: int, step: int, keys: Tensor, values: Tensor) -> None:
        """Put one step's keys and values [row, head, head width] into their place."""
        into = self.layers[layer]
        into.recent_keys[:, :, step % PREFIX_STEP] = keys.flatten(0, 1)
        into.values[:, step] = values.flatten(0, 1)

    def _lay_out(self, length: int) -> None:
        self.length = length
        num_matrices, width = self.num_rows * self.num_heads, self._head_width

        def view(memory: Tensor, *shape: int) -> Tensor:
            return memory[: num_matrices * math.prod(shape)].view(num_matrices, *shape)

        num_layers = len(self._recent)
        self.layers = [
            LayerCache(
                view(settled_keys, width, length - PREFIX_STEP),
                view(recent_keys, width, PREFIX_STEP),
                view(values, length, width),
            )
            for settled_keys, recent_keys, values in zip(
                self._memory[:num_layers], self._recent, self._memory[num_layers:-1], strict=True
            )
        ]


def _rounded_up(num_positions: int) -> int:
    return -(-num_positions // PREFIX_STEP) * PREFIX_STEP
