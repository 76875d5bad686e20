"""3x3 convolutions along an image's columns with half to two thirds of the multiplications.

Takes weights once and strips of rows with their neighbours; writes the convolution's rows.
Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2015), along the height only: adjacent output rows are sums of a few products of sums of input rows.
The remaining kernel is a row of three, which the library's own convolution computes. While a strip
is in the cache, the sums cost little; they are of whole rows, so each is one long run of memory.
Knows nothing of norms or of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptlab.models.dalle.cpu.buffers import Buffers
from promptlab.models.dalle.cpu.conv import PackedConv, as_image, as_pixels

FRAME_ROWS = 4  # of a convolution: a multiple of every scheme's outputs
Row = tuple[float, ...]


@dataclass(frozen=True)
class Points:
    """The points p and -p of a scheme: their products read even + p * odd and even - p * odd."""

    point: float
    even: Row  # [input]
    odd: Row  # [input]


@dataclass(frozen=True)
class Scheme:
    """F(num_outputs, 3): as many outputs from num_outputs + 2 products of inputs and kernel.

    The products are of the point 0, each pair of points, and infinity. Output i is the sum of
    p ** i times a point's product; the first product is in the first output alone, and the last in
    the last: convolutions add those themselves.
    """

    num_outputs: int
    first: Row  # [input]
    pairs: tuple[Points, ...]
    last: Row  # [input]
    kernel: tuple[Row, ...]  # [product, tap]


PAIRS = Scheme(
    2,
    first=(1, 0, -1, 0),
    pairs=(Points(1, even=(0, 0, 1, 0), odd=(0, 1, 0, 0)),),
    last=(0, -1, 0, 1),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
)
FOURS = Scheme(
    4,
    first=(4, 0, -5, 0, 1, 0),
    pairs=(
        Points(1, even=(0, 0, -4, 0, 1, 0), odd=(0, -4, 0, 1, 0, 0)),
        Points(2, even=(0, 0, -1, 0, 1, 0), odd=(0, -1, 0, 1, 0, 0)),
    ),
    last=(0, 4, 0, -5, 0, 1),
    kernel=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
)


class ColumnConv:
    """One 3x3 convolution, its weights transformed."""

    def __init__(self, weight: Tensor, bias: Tensor, scheme: Scheme):
        """Take weight [out, in, 3, 3] and bias [out]."""
        self.num_outputs = len(weight)
        self._scheme = scheme
        kernel = torch.tensor(scheme.kernel, dtype=torch.float64)
        rows = torch.einsum("pt,oitc->poic", kernel, weight.to(torch.float64)).to(weight.dtype)
        # The product of the point 1 is a summand of every output: the bias comes with it.
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
        group = self._scheme.num_outputs
        num_groups, width, channels = (len(rows) - 2) // group, *rows.shape[1:]
        inputs = [rows[tap:][::group][:num_groups] for tap in range(group + 2)]
        spare = [buffers.take(num_groups, width, channels, rows.dtype) for _ in range(3)]
        total = buffers.take(num_groups, width, self.num_outputs, rows.dtype)
        sums, differences = self._sums(inputs, spare)
        for index in range(group):
            parts = differences if index % 2 else sums
            factors = [pair.point**index for pair in self._scheme.pairs]
            drawn = add_up(parts, factors, total)
            if index in (0, group - 1):
                own = self._scheme.last if index else self._scheme.first
                x = add_up(inputs, own, spare[0])
                self._convs[-1 if index else 0].add_to(as_image(drawn), as_image(x))
            target = out[index::group]
            if residual is None:
                target.copy_(drawn[: len(target)])
            else:
                torch.add(drawn[: len(target)], residual[index::group], out=target)
        buffers.give(*spare, total)

    def _sums(
        self, inputs: Sequence[Tensor], spare: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return every pair of points' sum and difference of products."""
        sums, differences = [], []
        convs = self._convs[1:-1]
        for pair, conv_plus, conv_minus in zip(
            self._scheme.pairs, convs[::2], convs[1::2], strict=True
        ):
            even = add_up(inputs, pair.even, spare[0])
            odd = add_up(inputs, pair.odd, spare[1])
            x = torch.add(even, odd, alpha=pair.point, out=spare[2])
            plus = as_pixels(conv_plus(as_image(x)))
            x = torch.sub(even, odd, alpha=pair.point, out=spare[2])
            minus = as_pixels(conv_minus(as_image(x)))
            sums.append(plus + minus)
            differences.append(plus.sub_(minus))
        return sums, differences


def add_up(terms: Sequence[Tensor], factors: Sequence[float], out: Tensor) -> Tensor:
    """Return the sum of the terms, each times its factor, in one pass a term.

    One of the factors is one. Where it is the only one, its term is the sum; else that is `out`.
    """
    chosen = [(term, factor) for term, factor in zip(terms, factors, strict=True) if factor]
    chosen.sort(key=lambda pair: pair[1] != 1)  # the others are added to the summand as it is
    (first, _), *others = chosen
    for term, factor in others:
        first = torch.add(first, term, alpha=factor, out=out)
    return first
