"""3x3 convolutions along an image's columns with half to two thirds of the multiplications.

Takes weights once and strips of rows with their neighbours; writes the convolution's rows.
Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2015), along the height only: so many rows that follow each other are sums of a few products of sums
of rows, and what is left of the kernel is a row of three, which the library's own convolution
takes. While a strip lies in the cache, the sums cost a few per cent of what they save; they are of
whole rows, so that each is one long run of memory. Knows nothing of norms or of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptlab.models.dalle.buffers import Buffers
from promptlab.models.dalle.conv import PackedConv, as_image, as_pixels

FRAME_ROWS = 4  # of a convolution: a multiple of every scheme's outputs
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Scheme:
    """F(num_outputs, 3): outputs = after @ ((kernel @ taps) * (before @ inputs)).

    The first product is a summand of the first output alone, and the last of the last: convolutions
    add those themselves.
    """

    num_outputs: int
    before: Matrix  # [product, input]
    kernel: Matrix  # [product, tap]
    after: Matrix  # [output, product]


PAIRS = Scheme(
    2,
    before=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    after=((1, 1, 1, 0), (0, 1, -1, 1)),
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


class ColumnConv:
    """One 3x3 convolution, its weights transformed."""

    def __init__(self, weight: Tensor, bias: Tensor):
        """Take weight [out, in, 3, 3] and bias [out]."""
        self.num_outputs = len(weight)
        self._scheme = SCHEME_FROM_DTYPE.get(weight.dtype, PAIRS)
        kernel = torch.tensor(self._scheme.kernel, dtype=torch.float64)
        rows = torch.einsum("pt,oitc->poic", kernel, weight.to(torch.float64)).to(weight.dtype)
        # The second product is a summand of every output: the bias comes with it.
        self._convs = [
            PackedConv(row[:, :, None], bias if index == 1 else None, padding=(0, 1))
            for index, row in enumerate(rows)
        ]

    def __call__(
        self, rows: Tensor, out: Tensor, buffers: Buffers, residual: Tensor | None = None
    ) -> None:
        """Write `out` [row, width, out]: the convolution of `rows`, plus the residual.

        `rows` [row, width, in] holds those of `out`, one before and one after them; and as many
        more as make the first a multiple of FRAME_ROWS.
        """
        scheme = self._scheme
        num_groups = (len(rows) - 2) // scheme.num_outputs
        inputs = [
            rows[tap : tap + (num_groups - 1) * scheme.num_outputs + 1 : scheme.num_outputs]
            for tap in range(scheme.num_outputs + 2)
        ]
        width, num_inputs = rows.shape[1:]
        summed = buffers.take(num_groups, width, num_inputs, rows.dtype)
        total = buffers.take(num_groups, width, self.num_outputs, rows.dtype)
        products = []
        for factors, conv in list(zip(scheme.before, self._convs, strict=True))[1:-1]:
            add_up(inputs, factors, summed)
            products.append(as_pixels(conv(as_image(summed))))
        for index, factors in enumerate(scheme.after):
            add_up(products, factors[1:-1], total)
            if index in (0, scheme.num_outputs - 1):
                own = 0 if index == 0 else -1
                add_up(inputs, scheme.before[own], summed)
                self._convs[own].add_to(as_image(total), as_image(summed))
            target = out[index :: scheme.num_outputs]
            if residual is None:
                target.copy_(total[: len(target)])
            else:
                torch.add(total[: len(target)], residual[index :: scheme.num_outputs], out=target)
        buffers.give(summed, total)


def add_up(terms: Sequence[Tensor], factors: Sequence[float], out: Tensor) -> None:
    """Write the sum of the terms, each times its factor, in one pass a term."""
    # The summand with factor one, if there is one, starts: the others are added to it.
    chosen = [(term, factor) for term, factor in zip(terms, factors, strict=True) if factor]
    chosen.sort(key=lambda pair: pair[1] != 1)
    (first, _), (second, factor), *others = chosen
    torch.add(first, second, alpha=factor, out=out)
    for term, factor in others:
        out.add_(term, alpha=factor)
