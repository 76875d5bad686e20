"""Matrix products whose result for a row depends on nothing but that row.

Takes weights [out, in] as stored, packs them once for the device, multiplies [row, in] by them.
Knows nothing of transformers.

On a CPU, torch's own `linear` goes to MKL, whose blocking, and with it the last bits, changes with
the number of rows and of threads. oneDNN's inner product computes every element of the result in
one fixed order over `in`, and takes weights packed ahead. Its operators are those that
torch.compile emits for CPUs; where a build lacks them, `linear` with the block's fixed number of
rows takes their place.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Epilogue = Literal["none", "gelu"]

PACKED_ROWS = 64  # rows that the packed layout is made for; others are multiplied as well


def has_onednn_linear() -> bool:
    """Tell whether this build of torch has oneDNN's inner product as an operator."""
    return torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_reorder_linear_weight"
    )


class Linear:
    """x [row, in] -> x @ weight.T [row, out], without bias, optionally through an exact GELU."""

    def __init__(self, weight: Tensor, epilogue: Epilogue = "none"):
        self.num_outputs, self.num_inputs = weight.shape
        self.num_bytes = weight.numel() * weight.element_size()
        self._epilogue = epilogue
        self._is_packed = weight.device.type == "cpu" and has_onednn_linear()
        self._weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_ROWS)
            if self._is_packed
            else weight
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Return x @ weight.T, through the epilogue."""
        if self._is_packed:
            if self._epilogue == "gelu":
                return torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "gelu", [], "none")
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        y = functional.linear(x, self._weight)
        return functional.gelu(y) if self._epilogue == "gelu" else y

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return (x @ weight.T) * factor, factor [row, out]."""
        if self._is_packed:
            return torch.ops.mkldnn._linear_pointwise.binary(x, factor, self._weight, None, "mul")
        return functional.linear(x, self._weight).mul_(factor)
