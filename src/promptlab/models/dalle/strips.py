"""The detokenizer's large layers on a CPU, a strip of rows at a time.

Takes the blocks of detokenizer.py and activations of one image; returns the same activations that
the blocks would, to rounding. At 256x256 pixels and 128 channels one activation fills 32 MiB: each
pass of a norm, an activation or a sum over it costs as much as a good part of a convolution, and
each fresh allocation pays the system's page faults on top. Here a strip goes through norm,
activation, convolution and residual sum while it lies in the cache, into buffers that stay.

Two ways to the same numbers with less arithmetic: 3x3 convolutions go through winograd.py; and
where the resolution is doubled before a 3x3 convolution, which reads each source pixel up to nine
times through equal copies, the copies are summed in the weights instead: four 2x2 convolutions, one
for each of a pixel's four places, with 16/36 of the multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.buffers import Buffers
from promptlab.models.dalle.winograd import RowConv

STRIP_NUMBERS = 2**20  # numbers in one strip: 4 MiB of float32, shared by the cores' caches
LARGE_NUMBERS = 2**20  # activations from here on go by strips
EPSILON = 1e-5  # as in torch.nn.GroupNorm


@dataclass(frozen=True)
class Activation:
    """One image's activation, with what the next norm needs to know of it."""

    pixels: Tensor  # [height, width, channel]
    statistics: tuple[Statistics, ...]  # a strip each, measured while it lay in the cache


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of each channel over one strip."""

    num_pixels: int
    mean: Tensor  # [channel]
    variance: Tensor  # [channel]

    @staticmethod
    def of(pixels: Tensor) -> Statistics:
        """Measure [height, width, channel]."""
        mean, variance = torch.batch_norm_update_stats(_as_image(pixels), None, None, 0.0)
        return Statistics(pixels.shape[0] * pixels.shape[1], mean, variance)


@dataclass(frozen=True)
class UpsampleConv:
    """A 3x3 convolution of an image doubled in resolution, as four 2x2 convolutions."""

    weights: tuple[Tensor, Tensor, Tensor, Tensor]  # for the places (0, 0), (0, 1), (1, 0), (1, 1)
    bias: Tensor

    @staticmethod
    def of(weight: Tensor, bias: Tensor) -> UpsampleConv:
        """Sum the taps of [out, in, 3, 3] that meet the same source pixel."""
        exact = weight.to(torch.float32)

        def halves(taps: Tensor, dim: int, place: int) -> Tensor:
            first, middle, last = taps.unbind(dim)
            pair = (first, middle + last) if place == 0 else (first + middle, last)
            return torch.stack(pair, dim)

        return UpsampleConv(
            tuple(  # type: ignore[arg-type]
                halves(halves(exact, 2, row), 3, column)
                .to(weight.dtype)
                .contiguous(memory_format=torch.channels_last)
                for row in (0, 1)
                for column in (0, 1)
            ),
            bias,
        )


def measure(pixels: Tensor) -> Activation:
    """Return an activation of [height, width, channel] that came from elsewhere."""
    strips = pixels.split(_rows_per_strip(*pixels.shape))
    return Activation(pixels, tuple(map(Statistics.of, strips)))


def normalized_conv(
    source: Activation,
    norm: tuple[int, Tensor, Tensor],  # number of groups, weight, bias
    conv: RowConv | tuple[Tensor, Tensor],  # or its weight [out, in, 3, 3] and bias
    buffers: Buffers,
    residual: Tensor | None = None,  # [height, width, in']
    shortcut: tuple[Tensor, Tensor] | None = None,  # 1x1 on the residual, where in' is not out
) -> Activation:
    """Return conv(silu(norm(source))), plus the residual: a new activation."""
    height, width, channels = source.pixels.shape
    num_outputs = conv.num_outputs if isinstance(conv, RowConv) else len(conv[1])
    target = buffers.take(height, width, num_outputs, source.pixels.dtype)
    mean, variance = _group_statistics(source, norm[0])
    statistics = []
    for first, last in _strip_bounds(height, width, channels):
        rows = target[first:last]
        strip = _rows_and_neighbours(source.pixels, first, last)
        strip = torch.batch_norm(
            strip, norm[1], norm[2], mean, variance, False, 0.0, EPSILON, False
        )
        if isinstance(conv, RowConv):
            framed = buffers.framed(strip.shape[2], width, channels, strip.dtype)
            torch.ops.aten.silu.out(_as_pixels(strip), out=framed[:, 1:-1])
            conv(framed, first == 0, last == height, rows, buffers)
        else:
            rows.copy_(_conv_rows(functional.silu(strip, inplace=True), conv, first, last, height))
        if residual is not None:
            skipped = residual[first:last]
            if shortcut is not None:
                skipped = _as_pixels(functional.conv2d(_as_image(skipped), *shortcut))
            rows.add_(skipped)
        statistics.append(Statistics.of(rows))
    return Activation(target, tuple(statistics))


def upsampled_conv(source: Activation, conv: UpsampleConv, buffers: Buffers) -> Activation:
    """Return the 3x3 convolution of the source doubled in resolution: a new activation."""
    height, width, channels = source.pixels.shape
    num_outputs = len(conv.bias)
    target = buffers.take(2 * height, 2 * width, num_outputs, source.pixels.dtype)
    places = target.view(height, 2, width, 2, num_outputs)
    statistics = []
    for first, last in _strip_bounds(height, width, channels):
        strip = _rows_and_neighbours(source.pixels, first, last)
        for index, weight in enumerate(conv.weights):
            row, column = divmod(index, 2)
            # A 2x2 convolution's rows lie between those of its source: one more than those that
            # are wanted, the first of them for places in upper rows, the last for lower ones.
            drawn = _conv_rows(strip, (weight, conv.bias), first, last, height)
            places[first:last, row, :, column] = drawn[
                row : row + last - first, column : column + width
            ]
        statistics.append(Statistics.of(target[2 * first : 2 * last]))
    return Activation(target, tuple(statistics))


def _strip_bounds(height: int, width: int, channels: int) -> list[tuple[int, int]]:
    num_rows = _rows_per_strip(height, width, channels)
    return [(first, min(first + num_rows, height)) for first in range(0, height, num_rows)]


def _rows_and_neighbours(pixels: Tensor, first: int, last: int) -> Tensor:
    """View rows first to last, with the row before and the row after where there are such."""
    return _as_image(pixels[max(first - 1, 0) : last + 1])


def _conv_rows(
    strip: Tensor, conv: tuple[Tensor, Tensor], first: int, last: int, height: int
) -> Tensor:
    """Convolve a strip with its neighbours; beyond the image there are zeros.

    Returns [row, width or width + 1, out]: last - first rows for a 3x3 kernel, one more for 2x2.
    """
    is_top, is_bottom = first == 0, last == height
    if not is_top and not is_bottom:
        return _as_pixels(functional.conv2d(strip, *conv, padding=(0, 1)))
    # At an edge the convolution supplies zeros at both sides; what a real neighbour makes
    # superfluous is cut off.
    drawn = _as_pixels(functional.conv2d(strip, *conv, padding=1))
    return drawn[0 if is_top else 1 : len(drawn) if is_bottom else -1]


def _group_statistics(source: Activation, num_groups: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of every channel's group, spread over its channels."""
    per_group = source.pixels.shape[2] // num_groups
    counts = torch.tensor([strip.num_pixels for strip in source.statistics], dtype=torch.float64)
    shares = (counts / counts.sum())[:, None]
    means = torch.stack([strip.mean for strip in source.statistics]).to(torch.float64)
    variances = torch.stack([strip.variance for strip in source.statistics]).to(torch.float64)

    def over_group(per_strip: Tensor) -> Tensor:
        per_channel = (per_strip * shares).sum(0).view(num_groups, per_group)
        return per_channel.mean(1).repeat_interleave(per_group)

    mean = over_group(means)
    variance = over_group(variances + (means - mean).square())
    return mean.to(torch.float32), variance.to(torch.float32)


def _rows_per_strip(height: int, width: int, channels: int) -> int:
    return min(height, max(1, STRIP_NUMBERS // (width * channels)))


def _as_image(pixels: Tensor) -> Tensor:
    """View [height, width, channel] as [1, channel, height, width], channels-last."""
    return pixels.permute(2, 0, 1)[None]


def _as_pixels(image: Tensor) -> Tensor:
    return image[0].permute(1, 2, 0)
