"""3x3 convolutions along an image's rows with half to two thirds of the multiplications.

Takes weights once and strips of rows, zeros at both ends; writes the convolution's rows. Winograd's
minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015),
along the width only: so many neighbouring outputs are sums of a few products of sums of inputs,
and what is left of the kernel is a column of three, which the library's own convolution takes.
While a strip lies in the cache, the sums cost a few per cent of what they save. Knows nothing of
norms, of strips' bounds or of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.buffers import Buffers

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Scheme:
    """F(num_outputs, 3): outputs = after @ ((kernel @ taps) * (before @ inputs))."""

    num_outputs: int
    before: Matrix  # [product, input]
    kernel: Matrix  # [product, tap]
    after: Matrix  # [output, product]


PAIRS = Scheme(
    2,
    before=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    after=((1, 1, 1, 0), (0, 1, -1, -1)),
)
FOURS = Scheme(
    4,
    before=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    kernel=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    after=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)
# Half precision has no digits to spare for factors of eight.
SCHEME_FROM_DTYPE = {torch.float32: FOURS}


class RowConv:
    """One convolution, its weights transformed."""

    def __init__(self, weight: Tensor, bias: Tensor):
        """Take weight [out, in, 3, 3] and bias [out]."""
        self.num_inputs, self.num_outputs = weight.shape[1], weight.shape[0]
        self.scheme = SCHEME_FROM_DTYPE.get(weight.dtype, PAIRS)
        kernel = torch.tensor(self.scheme.kernel, dtype=torch.float64)
        columns = (weight.to(torch.float64) @ kernel.T).to(weight.dtype)  # [out, in, 3, product]
        self._weights = [
            column[..., None].contiguous(memory_format=torch.channels_last)
            for column in columns.unbind(-1)
        ]
        # The second product is a summand of every output: the bias comes with it.
        self._biases = [bias if index == 1 else None for index in range(len(self._weights))]

    def suits(self, width: int) -> bool:
        """Tell whether images of this width can be cut into its groups of outputs."""
        return width % self.scheme.num_outputs == 0

    def __call__(
        self, rows: Tensor, is_top: bool, is_bottom: bool, out: Tensor, buffers: Buffers
    ) -> None:
        """Write `out` [row, width, out]; `rows` [row, width + 2, in] begins and ends with zeros.

        `rows` has one row more than `out` above and below, but none above the image's top and
        none below its bottom, where there are zeros.
        """
        group = self.scheme.num_outputs
        num_groups = (rows.shape[1] - 2) // group
        is_edge = is_top or is_bottom
        kept = slice(0 if is_top else 1, None if is_bottom else -1) if is_edge else slice(None)
        inputs = [
            rows[:, tap : tap + group * (num_groups - 1) + 1 : group] for tap in range(group + 2)
        ]
        products = []
        summed = buffers.take(len(rows), num_groups, self.num_inputs, rows.dtype)
        image = summed.permute(2, 0, 1)[None]
        for factors, weight, bias in zip(
            self.scheme.before, self._weights, self._biases, strict=True
        ):
            add_up(inputs, factors, summed)
            product = functional.conv2d(image, weight, bias, padding=(int(is_edge), 0))
            products.append(product[0].permute(1, 2, 0)[kept])
        buffers.give(summed)
        outputs = out.view(len(out), num_groups, group, -1)
        for index, factors in enumerate(self.scheme.after):
            add_up(products, factors, outputs[:, :, index])


def add_up(terms: Sequence[Tensor], factors: Sequence[float], out: Tensor) -> None:
    """Write the sum of the terms, each times its factor, in one pass a term."""
    # The summand with factor one, if there is one, starts: the others are added to it.
    chosen = [(term, factor) for term, factor in zip(terms, factors, strict=True) if factor]
    chosen.sort(key=lambda pair: pair[1] != 1)
    (first, _), (second, factor), *others = chosen
    torch.add(first, second, alpha=factor, out=out)
    for term, factor in others:
        out.add_(term, alpha=factor)
