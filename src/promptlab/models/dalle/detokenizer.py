"""From image tokens to pixels: min-dalle's VQGAN decoder, generalised in its sizes.

Takes a grid of tokens, returns uint8 pixels. An image is detokenized alone, at one fixed shape, so
its pixels cannot depend on others; on an accelerator a batch has a fixed shape too. Weights lie
channels-last. Knows nothing of prompts or sampling.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cpu import strips
from promptlab.models.dalle.cpu.conv import PackedConv, as_image
from promptlab.models.dalle.cpu.team import Team
from promptlab.models.dalle.cpu.winograd import FOURS, PAIRS, ColumnConv

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Conv:
    """A convolution that keeps the resolution."""

    weight: Tensor  # [out, in, kernel, kernel], channels-last
    bias: Tensor

    @property
    def of(self) -> tuple[Tensor, Tensor]:
        """Weight and bias."""
        return self.weight, self.bias

    def __call__(self, x: Tensor) -> Tensor:
        """Return [image, out, height, width]."""
        return functional.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


@dataclass(frozen=True)
class GroupNorm:
    """Normalization of channel groups, optionally through x * sigmoid(x)."""

    num_groups: int
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return x normalized."""
        return functional.group_norm(x, self.num_groups, self.weight, self.bias)

    @property
    def of(self) -> tuple[int, Tensor, Tensor]:
        """Number of groups, weight and bias."""
        return self.num_groups, self.weight, self.bias

    def activated(self, x: Tensor) -> Tensor:
        """Return x normalized, times its own sigmoid."""
        return functional.silu(self(x), inplace=True)


@dataclass(frozen=True)
class ResnetBlock:
    """Two convolutions around the residual."""

    norm1: GroupNorm
    conv1: Conv
    norm2: GroupNorm
    conv2: Conv
    shortcut: Conv | None  # where the number of channels changes

    def __call__(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        h = self.conv1(self.norm1.activated(x))
        h = self.conv2(self.norm2.activated(h))
        return h.add_(x if self.shortcut is None else self.shortcut(x))


@dataclass(frozen=True)
class AttentionBlock:
    """Attention of every position to every other, one head."""

    norm: GroupNorm
    q: Conv
    k: Conv
    v: Conv
    out: Conv

    def __call__(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        h = self.norm(x)
        queries, keys, values = (
            conv(h).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v)
        )  # each [image, position, channel]
        scores = torch.bmm(queries, keys.transpose(1, 2)) / x.shape[1] ** 0.5
        attended = torch.bmm(scores.softmax(-1), values)
        attended = attended.transpose(1, 2).reshape(x.shape)
        return x + self.out(attended.contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class Level:
    """The blocks at one resolution, and the step to the next."""

    blocks: tuple[ResnetBlock | AttentionBlock, ...]
    upsample: Conv | None  # after doubling the resolution; None at the last level

    def __call__(self, x: Tensor) -> Tensor:
        """Return the level's output, doubled in resolution unless it is the last."""
        for block in self.blocks:
            x = block(x)
        if self.upsample is None:
            return x
        return self.upsample(functional.interpolate(x, scale_factor=2, mode="nearest"))


@dataclass(frozen=True)
class Detokenizer:
    """The network, ready on its device."""

    embedding: Tensor  # [token, channel]
    post_quant_conv: Conv
    conv_in: Conv
    levels: tuple[Level, ...]
    norm_out: GroupNorm
    conv_out: Conv

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """Return uint8 [image, height, width, 3] of int64 [image, row, column]."""
        x = self.embed(tokens)
        for level in self.levels:
            x = level(x)
        return to_pixels(self.conv_out(self.norm_out.activated(x)))

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the first level's input."""
        x = self.embedding[tokens].permute(0, 3, 1, 2)  # channels-last in memory
        return self.conv_in(self.post_quant_conv(x))


def to_pixels(x: Tensor) -> Tensor:
    """Return uint8 [image, height, width, 3]: clipped, scaled and cut to whole numbers.

    Cut, not rounded: as in min-dalle.
    """
    x = x.to(torch.float32).clamp_(0.0, 1.0).mul_(255)
    return x.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


Fast = TypeVar("Fast")


class StripDetokenizer:
    """The same network for one image at a time on a CPU, its large levels in strips.

    Threads share an image's strips; its bits do not depend on how many they are.
    """

    def __init__(self, network: Detokenizer, num_threads: int = 1):
        self.network = network
        self._team = Team(num_threads)
        self._fast: dict[int, Any] = {}  # by the id of the Conv that `network` keeps

    def twin(self) -> StripDetokenizer:
        """Return one with the same weights and memory of its own, for another thread."""
        twin = copy.copy(self)
        twin._team = Team()
        return twin

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
        fast = self._made(strips.FrameConv, conv)
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
        y = strips.upsampled_conv(x, self._made(strips.UpsampleConv, level.upsample), self._team)
        self._give(x)
        return y

    def _block(
        self, block: ResnetBlock, x: strips.Activation, *, is_last: bool
    ) -> strips.Activation:
        # Half precision has few digits to spare for factors of eight: only at the last level, whose
        # errors no other multiplies.
        has_digits = is_last or x.pixels.dtype == torch.float32
        column_conv = functools.partial(ColumnConv, scheme=FOURS if has_digits else PAIRS)
        conv1, conv2 = (self._made(column_conv, conv) for conv in (block.conv1, block.conv2))
        shortcut = None if block.shortcut is None else self._made(PackedConv, block.shortcut)
        h = strips.normalized_conv(x, block.norm1.of, conv1, self._team)
        y = strips.normalized_conv(h, block.norm2.of, conv2, self._team, x.pixels, shortcut)
        self._give(h)
        return y

    def _give(self, *activations: strips.Activation) -> None:
        self._team.own.give(*(activation.pixels for activation in activations))

    def _made(self, make: Callable[[Tensor, Tensor], Fast], conv: Conv) -> Fast:
        """Return a convolution in the form that is faster here, made at its first use."""
        if id(conv) not in self._fast:
            self._fast[id(conv)] = make(conv.weight, conv.bias)
        return self._fast[id(conv)]


class _Loader:
    def __init__(self, tensors: Tensors, num_groups: int, dtype: torch.dtype, device: str):
        self.tensors, self.num_groups = tensors, num_groups
        self.dtype, self.device = dtype, torch.device(device)

    def tensor(self, name: str) -> Tensor:
        return self.tensors[f"detokenizer.{name}"].to(device=self.device, dtype=self.dtype)

    def conv(self, name: str) -> Conv:
        weight = self.tensor(f"{name}.weight").contiguous(memory_format=torch.channels_last)
        return Conv(weight, self.tensor(f"{name}.bias"))

    def norm(self, name: str) -> GroupNorm:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        if self.device.type == "cpu":  # its kernels take half-precision images with these
            weight, bias = weight.to(torch.float32), bias.to(torch.float32)
        return GroupNorm(self.num_groups, weight, bias)

    def block(self, name: str) -> ResnetBlock:
        has_shortcut = f"detokenizer.{name}.nin_shortcut.weight" in self.tensors
        return ResnetBlock(
            self.norm(f"{name}.norm1"),
            self.conv(f"{name}.conv1"),
            self.norm(f"{name}.norm2"),
            self.conv(f"{name}.conv2"),
            self.conv(f"{name}.nin_shortcut") if has_shortcut else None,
        )

    def attention(self, name: str) -> AttentionBlock:
        convs = (self.conv(f"{name}.{projection}") for projection in ("q", "k", "v", "proj_out"))
        return AttentionBlock(self.norm(f"{name}.norm"), *convs)

    def blocks(
        self, name: str, number: int, has_attention: bool
    ) -> list[ResnetBlock | AttentionBlock]:
        blocks: list[ResnetBlock | AttentionBlock] = []
        for index in range(number):
            blocks.append(self.block(f"{name}.block.{index}"))
            if has_attention:
                blocks.append(self.attention(f"{name}.attn.{index}"))
        return blocks

    def mid(self, has_attention: bool) -> list[ResnetBlock | AttentionBlock]:
        name = "decoder.mid"
        between = [self.attention(f"{name}.attn_1")] if has_attention else []
        return [self.block(f"{name}.block_1"), *between, self.block(f"{name}.block_2")]


def load_detokenizer(
    tensors: Tensors, config: DalleConfig, dtype: torch.dtype, device: str
) -> Detokenizer:
    """Return the detokenizer, ready on its device."""
    sizes = config.detokenizer
    load = _Loader(tensors, sizes.norm_groups, dtype, device)
    last = len(sizes.channels) - 1
    levels = []
    for index in range(last + 1):
        name = f"decoder.up.{last - index}"  # min-dalle counts from the highest resolution
        blocks = load.blocks(name, sizes.blocks_per_level, index in sizes.attention_levels)
        if index == 0:
            blocks = load.mid(sizes.mid_attention) + blocks
        upsample = None if index == last else load.conv(f"{name}.upsample.conv")
        levels.append(Level(tuple(blocks), upsample))
    return Detokenizer(
        embedding=load.tensor("embedding.weight"),
        post_quant_conv=load.conv("post_quant_conv"),
        conv_in=load.conv("decoder.conv_in"),
        levels=tuple(levels),
        norm_out=load.norm("decoder.norm_out"),
        conv_out=load.conv("decoder.conv_out"),
    )
