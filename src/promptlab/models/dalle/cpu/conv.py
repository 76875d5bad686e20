"""Convolutions on a CPU whose weights are packed once, and that can add to their output.

Takes weights as stored, returns what torch's own convolution returns; that one packs them at every
call. A sum made while the product is in registers is free; in half precision, a separate pass over
the output costs much more than its arithmetic. Knows nothing of strips or of norms.

The operators are those that torch.compile emits for CPUs. Where a build lacks them, or the
processor has no arithmetic of that precision, torch's own convolution takes their place.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor
from torch.nn import functional

ONES = (1, 1)  # stride and dilation


class PackedConv:
    """x [1, in, height, width] -> [1, out, height', width'], all channels-last."""

    def __init__(self, weight: Tensor, bias: Tensor | None, padding: tuple[int, int] = (0, 0)):
        """Take weight [out, in, kernel height, kernel width] and bias [out]."""
        self.num_outputs = len(weight)
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias, self._padding = bias, padding
        self._packs, self._is_packed = _can_pack(weight), False
        self._packing = threading.Lock()  # lanes share weights

    def __call__(self, x: Tensor) -> Tensor:
        """Return the convolution of x."""
        if not self._packs:
            return functional.conv2d(x, self._weight, self._bias, padding=self._padding)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed(x), self._bias, self._padding, ONES, ONES, 1, "none", [], ""
        )

    def add_to(self, total: Tensor, x: Tensor) -> None:
        """Add the convolution of x, without its bias, to a dense `total`."""
        if not self._packs:
            total.add_(functional.conv2d(x, self._weight, padding=self._padding))
            return
        torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, self._packed(x), None, self._padding, ONES, ONES, 1, "add", 1.0, None, [], ""
        )

    def _packed(self, x: Tensor) -> Tensor:
        # The first input's shape decides the layout: a layer has nearly always the same shape, and
        # others work, too.
        if not self._is_packed:
            with self._packing:
                if not self._is_packed:
                    self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                        self._weight, self._padding, ONES, ONES, 1, x.shape
                    )
                    self._is_packed = True
        return self._weight


def as_image(pixels: Tensor) -> Tensor:
    """View [height, width, channel] as [1, channel, height, width], channels-last."""
    return pixels.permute(2, 0, 1)[None]


def as_pixels(image: Tensor) -> Tensor:
    """View [1, channel, height, width] as [height, width, channel]."""
    return image[0].permute(1, 2, 0)


def _can_pack(weight: Tensor) -> bool:
    operators = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(operators, "_reorder_convolution_weight"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(operators._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
