"""The detokenizer's large layers on a CPU, a strip of rows at a time.

Takes the blocks of detokenizer.py and activations of one image; returns the same activations that
the blocks would, to rounding. At 256x256 pixels and 128 channels one activation fills 32 MiB: each
pass of a norm, an activation or a sum over it costs a large part of a convolution, and each fresh
allocation costs page faults in addition. Here a strip passes through norm, activation, convolution
and residual sum while it is in the cache, into buffers that are reused.

Two ways to the same numbers with less arithmetic: 3x3 convolutions go through winograd.py; and
where the resolution is doubled before a 3x3 convolution, which reads each source pixel up to nine
times through equal copies, the copies are summed in the weights instead, with 12/36 of the
multiplications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.cpu.buffers import Buffers
from promptlab.models.dalle.cpu.conv import PackedConv, as_image, as_pixels
from promptlab.models.dalle.cpu.team import Team
from promptlab.models.dalle.cpu.winograd import FRAME_ROWS, ColumnConv

STRIP_NUMBERS = 2**20  # numbers in one strip: 2 MiB of bfloat16, near the cores' caches
LARGE_NUMBERS = 2**20  # activations from here on go by strips, as do those of
MANY_CHANNELS = 256  # where a product's arithmetic leaves all else behind
EPSILON = 1e-5  # as in torch.nn.GroupNorm

Strip = slice  # of rows
Norm = tuple[int, Tensor, Tensor]  # number of groups, weight, bias


@dataclass(frozen=True)
class Activation:
    """One image's activation, with the statistics that the next norm needs."""

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
        mean, variance = torch.batch_norm_update_stats(as_image(pixels), None, None, 0.0)
        return Statistics(pixels.shape[0] * pixels.shape[1], mean, variance)


class FrameConv:
    """A 3x3 convolution as it is, for rows with their neighbours."""

    def __init__(self, weight: Tensor, bias: Tensor):
        """Take weight [out, in, 3, 3] and bias [out]."""
        self.num_outputs = len(weight)
        self._conv = PackedConv(weight, bias, padding=(0, 1))

    def __call__(
        self, rows: Tensor, out: Tensor, buffers: Buffers, residual: Tensor | None = None
    ) -> None:
        """Write `out`, as ColumnConv does."""
        drawn = as_pixels(self._conv(as_image(rows[: len(out) + 2])))
        if residual is None:
            out.copy_(drawn)
        else:
            torch.add(drawn, residual, out=out)


class UpsampleConv:
    """A 3x3 convolution of an image doubled in resolution, from the image as it was.

    Of a pixel's four places, those in the left column see the columns (0, 1, 1) of the image as it
    was, those in the right (1, 1, 2): two taps each. Those in the upper row see the rows (0, 1, 1):
    all three taps of row 1, and the first of how row 0 differs from it. The first product is the
    same for those in the lower row.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        """Take weight [out, in, 3, 3] and bias [out]."""
        self.num_outputs = len(weight)
        exact = weight.to(torch.float64)
        first, middle, last = exact.unbind(3)
        self._columns = [
            self._rows_of(torch.stack(taps, 3), weight.dtype, bias)
            for taps in ((first, middle + last), (first + middle, last))
        ]

    @staticmethod
    def _rows_of(taps: Tensor, dtype: torch.dtype, bias: Tensor) -> tuple[PackedConv, ...]:
        """Return the products of the row itself, of the step to it, and of the step from it."""
        upper, _, lower = taps.unbind(2)
        return tuple(
            PackedConv(row[:, :, None].to(dtype), bias if index == 0 else None, padding=(0, 1))
            for index, row in enumerate((taps.sum(2), -upper, lower))
        )

    def __call__(self, rows: Tensor, steps: Tensor, places: Tensor) -> None:
        """Write `places` [row, 2, width, 2, out], what becomes of `rows` [row, width, in].

        `steps` [row + 1, width, in] is from each row's upper neighbour to it, and from the last
        row to its lower one.
        """
        width = rows.shape[1]
        for column, (own, above, below) in enumerate(self._columns):
            lower = own(as_image(rows))  # one column more than those that are wanted
            upper = lower.clone()
            above.add_to(upper, as_image(steps[:-1]))
            below.add_to(lower, as_image(steps[1:]))
            for row, drawn in enumerate((upper, lower)):
                places[:, row, :, column] = as_pixels(drawn)[:, column : column + width]


def goes_by_strips(image: Tensor) -> bool:
    """Tell whether an activation [1, channel, height, width] is computed faster in strips."""
    return image.shape[1] >= MANY_CHANNELS or image.numel() >= LARGE_NUMBERS


def measure(image: Tensor, team: Team) -> Activation:
    """Return the activation of an image [1, channel, height, width]."""
    _, channels, height, width = image.shape
    pixels = team.own.take(height, width, channels, image.dtype).copy_(as_pixels(image))
    strips = _strips(*pixels.shape)
    return Activation(pixels, tuple(Statistics.of(pixels[strip]) for strip in strips))


def normalized_conv(
    source: Activation,
    norm: Norm,
    conv: ColumnConv | FrameConv,
    team: Team,
    residual: Tensor | None = None,  # [height, width, in']
    shortcut: PackedConv | None = None,  # 1x1 on the residual, where in' is not out
) -> Activation:
    """Return conv(silu(norm(source))), plus the residual: a new activation."""
    height, width, channels = source.pixels.shape
    target = team.own.take(height, width, conv.num_outputs, source.pixels.dtype)
    mean, variance = _group_statistics(source, norm[0])

    # In inference mode there are no batch statistics to save, so these outputs stay empty.
    unused = {"save_mean": torch.empty(0), "save_invstd": torch.empty(0)}

    def normalize(rows: Tensor, out: Tensor) -> None:
        torch.ops.aten.native_batch_norm.out(
            rows, *norm[1:], mean, variance, False, 0.0, EPSILON, out=out, **unused
        )

    def draw(strip: Strip, buffers: Buffers) -> Statistics:
        skipped = None if residual is None else residual[strip]
        if skipped is not None and shortcut is not None:
            skipped = as_pixels(shortcut(as_image(skipped)))
        rows = _activated(source.pixels, strip, normalize, buffers)
        conv(rows, target[strip], buffers, skipped)
        buffers.give(rows)
        return Statistics.of(target[strip])

    strips = _strips(height, width, channels)
    return Activation(target, tuple(team.map(draw, strips)))


def upsampled_conv(source: Activation, conv: UpsampleConv, team: Team) -> Activation:
    """Return the 3x3 convolution of the source doubled in resolution: a new activation."""
    pixels = source.pixels
    height, width, channels = pixels.shape
    target = team.own.take(2 * height, 2 * width, conv.num_outputs, pixels.dtype)
    places = target.view(height, 2, width, 2, conv.num_outputs)

    def draw(strip: Strip, buffers: Buffers) -> Statistics:
        first, last = strip.start, strip.stop
        steps = buffers.take(last - first + 1, width, channels, pixels.dtype)
        inner = range(max(first, 1), min(last + 1, height))  # rows beyond the image are zeros
        torch.sub(
            pixels[inner.start : inner.stop],
            pixels[inner.start - 1 : inner.stop - 1],
            out=steps[inner.start - first : inner.stop - first],
        )
        if first == 0:
            steps[0] = pixels[0]
        if last == height:
            torch.neg(pixels[-1], out=steps[-1])
        conv(pixels[strip], steps, places[strip])
        buffers.give(steps)
        return Statistics.of(target[2 * first : 2 * last])

    strips = _strips(height, width, channels)
    return Activation(target, tuple(team.map(draw, strips)))


def _activated(
    pixels: Tensor, strip: Strip, normalize: Callable[[Tensor, Tensor], None], buffers: Buffers
) -> Tensor:
    """Return silu(norm(strip)) with the row before and at least one after, in a lent buffer.

    Rows beyond the image are zeros. Without those two rows, the number of rows is a multiple of
    FRAME_ROWS.
    """
    height, width, channels = pixels.shape
    first, last = strip.start, strip.stop
    num_rows = -(-(last - first) // FRAME_ROWS) * FRAME_ROWS
    rows = buffers.take(num_rows + 2, width, channels, pixels.dtype)
    begin, end = max(first - 1, 0), min(last + 1, height)
    above, below = begin - first + 1, end - first + 1
    rows[:above].zero_()
    normalize(as_image(pixels[begin:end]), as_image(rows[above:below]))
    functional.silu(rows[above:below], inplace=True)
    rows[below:].zero_()
    return rows


def _strips(height: int, width: int, channels: int) -> list[Strip]:
    num_rows = _rows_per_strip(height, width, channels)
    return [slice(row, min(row + num_rows, height)) for row in range(0, height, num_rows)]


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
    most = min(STRIP_NUMBERS // (width * channels), height + FRAME_ROWS - 1)
    return max(most // FRAME_ROWS * FRAME_ROWS, FRAME_ROWS)
