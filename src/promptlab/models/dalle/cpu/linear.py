"""Matrix products whose result for a row depends on nothing but that row.

Takes weights [out, in] as stored, packs them once for the device, multiplies [row, in] by them.
Knows nothing of transformers.

A library may sum in another order for another number of rows, and then the last bits differ. On a
CPU there are two remedies:

- oneDNN's inner product, with packed weights and fused epilogues: the same order for any number of
  rows (half precision: from 64 rows on; blocks.py checks this on the machine).
- MKL's packed product, on Intel's own processors the faster one for large float32 matrices: the
  order depends on the number of rows, so that number is fixed, and other inputs are cut and padded.

Both are operators that torch.compile emits for CPUs. Where a build lacks them, torch's own `linear`
with the block's number of rows takes their place.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.machine import cpu_vendor

Epilogue = Literal["none", "gelu"]

LARGE = 2**19  # numbers in a matrix: from here on the packed product is faster
SERIAL_NUMBERS = 32_768  # torch runs elementwise kernels over fewer numbers in one thread
VECTOR_NUMBERS = 64  # a multiple of the numbers in two vector registers


class Linear:
    """x [row, in] -> x @ weight.T [row, out], without bias, optionally through an exact GELU."""

    def __init__(self, weight: Tensor, epilogue: Epilogue = "none", num_rows: int = 64):
        """Pack a weight; `num_rows` is the usual number of rows of its input."""
        self.num_outputs, self.num_inputs = weight.shape
        self._epilogue, self._num_rows = epilogue, num_rows
        self._kernel = _choose_kernel(weight)
        weight = weight.contiguous()
        if self._kernel == "onednn":
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
        elif self._kernel == "mkl":
            # The operator asks the original weight for its shape alone: this one has no memory.
            self._shape = weight.new_empty(1).expand(weight.shape)
            weight = torch.ops.mkl._mkl_reorder_linear_weight(weight, num_rows)
        self._weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        """Return x @ weight.T, through the epilogue."""
        if self._kernel == "onednn":
            if self._epilogue == "gelu":
                return torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "gelu", [], "none")
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return self._product(x)

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return (x @ weight.T) * factor, factor [row, out]."""
        if self._kernel == "onednn":
            return torch.ops.mkldnn._linear_pointwise.binary(x, factor, self._weight, None, "mul")
        return self._product(x).mul_(factor)

    def _product(self, x: Tensor) -> Tensor:
        if self._kernel == "torch":
            return self._finish(functional.linear(x, self._weight))
        if len(x) == self._num_rows:
            return self._finish(
                torch.ops.mkl._mkl_linear(x, self._weight, self._shape, None, self._num_rows)
            )
        missing = -len(x) % self._num_rows
        padded = functional.pad(x, (0, 0, 0, missing))
        products = [self._product(rows) for rows in padded.split(self._num_rows)]
        return (products[0] if len(products) == 1 else torch.cat(products))[: len(x)]

    def _finish(self, product: Tensor) -> Tensor:
        return exact_gelu_(product) if self._epilogue == "gelu" else product


def _choose_kernel(weight: Tensor) -> Literal["mkl", "onednn", "torch"]:
    if weight.device.type != "cpu":
        return "torch"
    is_large = weight.numel() >= LARGE and weight.dtype == torch.float32
    if is_large and is_intel() and hasattr(torch.ops.mkl, "_mkl_reorder_linear_weight"):
        return "mkl"
    has_onednn = torch.backends.mkldnn.is_available()
    if has_onednn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return "onednn"
    return "torch"


def is_intel() -> bool:
    """Tell whether this is one of Intel's processors: by its name, so always the same answer."""
    return "GenuineIntel" in cpu_vendor()


def exact_gelu_(x: Tensor) -> Tensor:
    """Apply the exact GELU in place, the same bits for a number wherever it lies.

    torch cuts a contiguous tensor into one range a thread, and computes the rest at a
    range's end, less than a vector, with another formula for erf. So no range may end inside
    a vector: where one would, the tensor is computed in pieces small enough for one thread.
    """
    if x.device.type != "cpu" or _is_cut_between_vectors(x.numel()):
        return torch.ops.aten.gelu_(x)
    flat = functional.pad(x.reshape(-1), (0, -x.numel() % VECTOR_NUMBERS))
    for piece in flat.split(SERIAL_NUMBERS):
        torch.ops.aten.gelu_(piece)
    return x.copy_(flat[: x.numel()].view(x.shape))


def _is_cut_between_vectors(num_numbers: int) -> bool:
    num_ranges = max(1, min(torch.get_num_threads(), -(-num_numbers // SERIAL_NUMBERS)))
    per_range = -(-num_numbers // num_ranges)
    return num_numbers % VECTOR_NUMBERS == 0 and per_range % VECTOR_NUMBERS == 0
