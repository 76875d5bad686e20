"""Convolutions with fewer multiplications are the convolutions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from promptlab.models.dalle.cpu import conv
from promptlab.models.dalle.cpu.buffers import Buffers
from promptlab.models.dalle.cpu.conv import PackedConv, as_image, as_pixels
from promptlab.models.dalle.cpu.strips import FrameConv, UpsampleConv, measure, upsampled_conv
from promptlab.models.dalle.cpu.team import Team
from promptlab.models.dalle.cpu.winograd import FOURS, FRAME_ROWS, PAIRS, ColumnConv, Scheme

TOLERANCES = [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)]


def random_conv(kernel: int = 3, padding: int = 1) -> tuple[torch.Tensor, ...]:
    """Return weight, bias, an image [height, width, in] and its convolution, likewise."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(24, 16, kernel, kernel, generator=generator) / 12
    bias = torch.randn(24, generator=generator)
    image = torch.randn(13, 20, 16, generator=generator)
    expected = as_pixels(functional.conv2d(as_image(image), weight, bias, padding=padding))
    return weight, bias, image, expected


def largest_error(drawn: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest number."""
    return float((drawn.to(torch.float32) - expected).abs().max() / expected.abs().max())


def convolve(
    fast: ColumnConv | FrameConv, image: torch.Tensor, rows_per_strip: int, residual: torch.Tensor
) -> torch.Tensor:
    """Return the convolution of [height, width, in], strip by strip, zeros around the image."""
    height, width, channels = image.shape
    out = torch.empty(height, width, fast.num_outputs, dtype=image.dtype)
    buffers = Buffers()
    below = torch.zeros(2 * FRAME_ROWS, width, channels, dtype=image.dtype)
    framed = torch.cat([below[:1], image, below])
    for first in range(0, height, rows_per_strip):
        last = min(first + rows_per_strip, height)
        num_rows = -(-(last - first) // FRAME_ROWS) * FRAME_ROWS + 2
        rows = framed[first : first + num_rows]
        fast(rows, out[first:last], buffers, residual[first:last])
    return out


@pytest.mark.parametrize("scheme", [PAIRS, FOURS])
def test_a_scheme_is_the_convolution_of_numbers(scheme: Scheme) -> None:
    inputs = torch.randn(scheme.num_outputs + 2, dtype=torch.float64)
    taps = torch.randn(3, dtype=torch.float64)
    points, rows = [0.0], [scheme.first]
    for pair in scheme.pairs:
        for point in (pair.point, -pair.point):
            points.append(point)
            rows.append(tuple(e + point * o for e, o in zip(pair.even, pair.odd, strict=True)))
    columns = [[point**index for index in range(scheme.num_outputs)] for point in points]
    columns.append([0.0] * (scheme.num_outputs - 1) + [1.0])
    before, kernel, after = (
        torch.tensor(matrix, dtype=torch.float64)
        for matrix in ([*rows, scheme.last], scheme.kernel, columns)
    )
    outputs = after.T @ ((kernel @ taps) * (before @ inputs))
    assert torch.allclose(outputs, functional.conv1d(inputs[None, None], taps[None, None])[0, 0])


@pytest.mark.parametrize("scheme", [PAIRS, FOURS, None])
@pytest.mark.parametrize("rows_per_strip", [1, 3, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_rows_are_convolved_as_by_torch(
    scheme: Scheme | None, rows_per_strip: int, dtype: torch.dtype, tolerance: float
) -> None:
    weight, bias, image, expected = random_conv()
    residual = torch.randn(expected.shape)
    weights = weight.to(dtype), bias.to(dtype)
    fast = FrameConv(*weights) if scheme is None else ColumnConv(*weights, scheme)
    for skipped in (torch.zeros_like(residual), residual):
        drawn = convolve(fast, image.to(dtype), rows_per_strip, skipped.to(dtype))
        assert largest_error(drawn, expected + skipped) <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("numbers_per_strip", [1, 1500, 10**6])
def test_a_doubled_image_is_convolved_as_by_torch(
    dtype: torch.dtype, tolerance: float, numbers_per_strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptlab.models.dalle.cpu.strips.STRIP_NUMBERS", numbers_per_strip)
    weight, bias, image, _ = random_conv()
    doubled = functional.interpolate(as_image(image), scale_factor=2, mode="nearest")
    expected = as_pixels(functional.conv2d(doubled, weight, bias, padding=1))
    team = Team(2)
    with team.at_work(), torch.inference_mode():
        source = measure(as_image(image.to(dtype)), team)
        drawn = upsampled_conv(source, UpsampleConv(weight.to(dtype), bias.to(dtype)), team)
    assert largest_error(drawn.pixels, expected) <= tolerance


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1)])
def test_a_packed_convolution_is_torchs_and_adds_to_what_is_there(
    is_packed: bool,
    dtype: torch.dtype,
    tolerance: float,
    kernel: int,
    padding: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_packed:  # as in a build without the operators
        monkeypatch.setattr(conv, "_can_pack", lambda weight: False)
    weight, bias, image, expected = random_conv(kernel, padding)
    packed = PackedConv(weight.to(dtype), bias.to(dtype), (padding, padding))
    x = as_image(image.to(dtype))
    assert largest_error(as_pixels(packed(x)), expected) <= tolerance
    total = torch.randn(expected.shape).to(dtype)
    before = total.to(torch.float32, copy=True)
    packed.add_to(as_image(total), x)
    assert largest_error(total, before + expected - bias) <= tolerance
