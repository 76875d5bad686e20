"""Convolutions with fewer multiplications are the convolutions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from promptlab.models.dalle.buffers import Buffers
from promptlab.models.dalle.winograd import FOURS, PAIRS, RowConv, Scheme


def convolve(conv: RowConv, image: torch.Tensor, rows_per_strip: int) -> torch.Tensor:
    """Return the convolution of [height, width, in], strip by strip, zeros around the image."""
    height, width, channels = image.shape
    out = torch.empty(height, width, conv.num_outputs, dtype=image.dtype)
    buffers = Buffers()
    for first in range(0, height, rows_per_strip):
        last = min(first + rows_per_strip, height)
        rows = image[max(first - 1, 0) : last + 1]
        framed = buffers.framed(len(rows), width, channels, image.dtype)
        framed[:, 1:-1] = rows
        conv(framed, first == 0, last == height, out[first:last], buffers)
    return out


@pytest.mark.parametrize("scheme", [PAIRS, FOURS])
def test_a_scheme_is_the_convolution_of_numbers(scheme: Scheme) -> None:
    before, kernel, after = (
        torch.tensor(matrix, dtype=torch.float64)
        for matrix in (scheme.before, scheme.kernel, scheme.after)
    )
    inputs = torch.randn(scheme.num_outputs + 2, dtype=torch.float64)
    taps = torch.randn(3, dtype=torch.float64)
    outputs = after @ ((kernel @ taps) * (before @ inputs))
    assert torch.allclose(outputs, functional.conv1d(inputs[None, None], taps[None, None])[0, 0])


@pytest.mark.parametrize("rows_per_strip", [1, 3, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_rows_are_convolved_as_by_torch(
    rows_per_strip: int, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(24, 16, 3, 3, generator=generator) / 12
    bias = torch.randn(24, generator=generator)
    image = torch.randn(12, 20, 16, generator=generator)
    expected = functional.conv2d(image.permute(2, 0, 1)[None], weight, bias, padding=1)
    conv = RowConv(weight.to(dtype), bias.to(dtype))
    assert conv.suits(20)
    drawn = convolve(conv, image.to(dtype), rows_per_strip).to(torch.float32)
    error = (drawn - expected[0].permute(1, 2, 0)).abs().max()
    assert error <= tolerance * expected.abs().max()


def test_a_width_that_its_groups_do_not_fill_does_not_suit() -> None:
    weight, bias = torch.zeros(8, 8, 3, 3), torch.zeros(8)
    assert not RowConv(weight, bias).suits(10)
    assert RowConv(weight.to(torch.bfloat16), bias.to(torch.bfloat16)).suits(10)
