"""The detokenizer on a CPU: one image at a time at one shape, its large levels in strips.

Takes the network of detokenizer.py and image tokens, returns uint8 pixels. An image's bits depend
neither on the images beside it nor on the number of threads. Knows nothing of prompts or sampling.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from promptlab.models.dalle.cpu import strips
from promptlab.models.dalle.cpu.conv import PackedConv, as_image
from promptlab.models.dalle.cpu.lanes import map_side_by_side
from promptlab.models.dalle.cpu.team import Team
from promptlab.models.dalle.cpu.winograd import FOURS, PAIRS, ColumnConv
from promptlab.models.dalle.detokenizer import (
    AttentionBlock,
    Conv,
    Detokenizer,
    Level,
    ResnetBlock,
    clamp_tokens,
    to_pixels,
)

Packed = TypeVar("Packed")


class PackedConvs:
    """Convolutions in the form that is fastest here, made at their first use and shared."""

    def __init__(self) -> None:
        self._packed: dict[int, Any] = {}  # by the id of a Conv that the network keeps

    def made(self, make: Callable[[Tensor, Tensor], Packed], conv: Conv) -> Packed:
        """Return what `make` returns of the convolution's weight and bias, made once."""
        if id(conv) not in self._packed:
            self._packed[id(conv)] = make(conv.weight, conv.bias)
        return self._packed[id(conv)]


class ImagesDetokenizer:
    """Images side by side, one thread each; a single picture is shared by all threads.

    The pixels are the same either way.
    """

    def __init__(self, network: Detokenizer, packed: PackedConvs, num_threads: int):
        self._shared = StripDetokenizer(network, packed, num_threads)
        self._single = [StripDetokenizer(network, packed) for _ in range(num_threads)]

    def pixels(self, tokens: Tensor) -> Tensor:
        """Return uint8 [image, height, width, 3] of int64 [image, step]."""
        network = self._shared.network
        grid = math.isqrt(tokens.shape[1])
        images = clamp_tokens(tokens, network).view(-1, 1, grid, grid).unbind()
        num_threads = len(self._single)
        is_one_left_over = num_threads > 1 and len(images) % num_threads == 1
        alone = images[-1:] if is_one_left_over else ()
        side_by_side = images[: len(images) - len(alone)]
        drawn = map_side_by_side(self._single, side_by_side) if side_by_side else []
        return torch.cat([*drawn, *map(self._shared, alone)])

    def picture(self, tokens: Tensor) -> Tensor:
        """Return uint8 [height, width, 3] of int64 [row, column]."""
        return self._shared(clamp_tokens(tokens[None], self._shared.network))[0]


class StripDetokenizer:
    """The network for one image at a time, its large levels in strips that threads share."""

    def __init__(
        self, network: Detokenizer, packed: PackedConvs | None = None, num_threads: int = 1
    ):
        self.network = network
        self._packed = packed or PackedConvs()
        self._team = Team(num_threads)

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """Return uint8 [1, height, width, 3] of int64 [1, row, column]."""
        with self._team.at_work():
            return self._draw(tokens)

    def _draw(self, tokens: Tensor) -> Tensor:
        x = self.network.embed(tokens)
        norm, conv = self.network.norm_out, self.network.conv_out
        levels = iter(self.network.levels)
        while not strips.goes_by_strips(x):
            level = next(levels, None)
            if level is None:
                return to_pixels(conv(norm.activated(x)))
            x = level(x)
        activation = strips.measure(x, self._team)
        for level in levels:
            activation = self._level(level, activation)
        fast = self._packed.made(strips.FrameConv, conv)
        drawn = strips.normalized_conv(activation, norm.of, fast, self._team)
        pixels = to_pixels(as_image(drawn.pixels))
        self._give(drawn, activation)
        return pixels

    def _level(self, level: Level, x: strips.Activation) -> strips.Activation:
        for block in level.blocks:
            if isinstance(block, AttentionBlock):
                y = strips.measure(block(as_image(x.pixels)), self._team)
            else:
                y = self._block(block, x, is_last=level.upsample is None)
            self._give(x)
            x = y
        if level.upsample is None:
            return x
        conv = self._packed.made(strips.UpsampleConv, level.upsample)
        y = strips.upsampled_conv(x, conv, self._team)
        self._give(x)
        return y

    def _block(
        self, block: ResnetBlock, x: strips.Activation, *, is_last: bool
    ) -> strips.Activation:
        # Half precision has few digits to spare for factors of eight: only at the last level, whose
        # errors no other multiplies.
        has_digits = is_last or x.pixels.dtype == torch.float32
        column_conv = functools.partial(ColumnConv, scheme=FOURS if has_digits else PAIRS)
        conv1, conv2 = (self._packed.made(column_conv, conv) for conv in (block.conv1, block.conv2))
        shortcut = None if block.shortcut is None else self._packed.made(PackedConv, block.shortcut)
        h = strips.normalized_conv(x, block.norm1.of, conv1, self._team)
        y = strips.normalized_conv(h, block.norm2.of, conv2, self._team, x.pixels, shortcut)
        self._give(h)
        return y

    def _give(self, *activations: strips.Activation) -> None:
        self._team.own.give(*(activation.pixels for activation in activations))
