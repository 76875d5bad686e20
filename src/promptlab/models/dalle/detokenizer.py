"""From image tokens to pixels: min-dalle's VQGAN decoder, generalised in its sizes.

Takes a grid of tokens, returns uint8 pixels. An image is detokenized alone, at one fixed shape, so
its pixels cannot depend on others; on an accelerator a batch has a fixed shape too. Weights lie
channels-last. Knows nothing of prompts or sampling.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle import strips
from promptlab.models.dalle.buffers import Buffers
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.winograd import RowConv

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

    blocks: tuple[ResnetBlock, ...]
    attentions: tuple[AttentionBlock, ...]  # one a block, or none
    upsample: Conv | None  # after doubling the resolution; None at the last level

    def __call__(self, x: Tensor) -> Tensor:
        """Return the level's output, doubled in resolution unless it is the last."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[index](x)
        if self.upsample is None:
            return x
        return self.upsample(functional.interpolate(x, scale_factor=2, mode="nearest"))


@dataclass(frozen=True)
class Detokenizer:
    """The network, ready on its device."""

    embedding: Tensor  # [token, channel]
    post_quant_conv: Conv
    conv_in: Conv
    mid: tuple[ResnetBlock | AttentionBlock, ...]
    levels: tuple[Level, ...]
    norm_out: GroupNorm
    conv_out: Conv

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """Return uint8 [image, height, width, 3] of int64 [image, row, column]."""
        x = self.start(tokens)
        for level in self.levels:
            x = level(x)
        return to_pixels(self.conv_out(self.norm_out.activated(x)))

    def start(self, tokens: Tensor) -> Tensor:
        """Return the lowest resolution's activation."""
        x = self.embedding[tokens].permute(0, 3, 1, 2)  # channels-last in memory
        x = self.conv_in(self.post_quant_conv(x))
        for block in self.mid:
            x = block(x)
        return x


def to_pixels(x: Tensor) -> Tensor:
    """Return uint8 [image, height, width, 3]: clipped, scaled and cut to whole numbers.

    Cut, not rounded: as in min-dalle.
    """
    x = x.to(torch.float32).clamp_(0.0, 1.0).mul_(255)
    return x.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class StripDetokenizer:
    """The same network for one image at a time on a CPU, its large levels in strips."""

    def __init__(self, network: Detokenizer):
        self.network = network
        self._buffers = Buffers()
        self._upsamples = [
            None if conv is None else strips.UpsampleConv.of(conv.weight, conv.bias)
            for conv in (level.upsample for level in network.levels)
        ]
        self._row_convs: dict[int, RowConv] = {}  # by the id of the Conv that `network` keeps

    def twin(self) -> StripDetokenizer:
        """Return one with the same weights and buffers of its own, for another thread."""
        twin = copy.copy(self)
        twin._buffers = Buffers()
        return twin

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """Return uint8 [1, height, width, 3] of int64 [1, row, column]."""
        x = self.network.start(tokens)
        activation: strips.Activation | None = None
        for level, upsample in zip(self.network.levels, self._upsamples, strict=True):
            if activation is None and (level.attentions or x[0].numel() < strips.LARGE_NUMBERS):
                x = level(x)
                continue
            if activation is None:
                activation = strips.measure(x[0].permute(1, 2, 0).contiguous())
            activation = self._level(level, upsample, activation)
        norm, conv = self.network.norm_out, self.network.conv_out
        if activation is None:
            return to_pixels(conv(norm.activated(x)))
        drawn = strips.normalized_conv(activation, norm.of, conv.of, self._buffers)
        pixels = to_pixels(drawn.pixels.permute(2, 0, 1)[None])
        self._buffers.give(drawn.pixels, activation.pixels)
        return pixels

    def _level(
        self, level: Level, upsample: strips.UpsampleConv | None, x: strips.Activation
    ) -> strips.Activation:
        buffers, width = self._buffers, x.pixels.shape[1]
        for block in level.blocks:
            conv1, conv2 = (self._conv(conv, width) for conv in (block.conv1, block.conv2))
            h = strips.normalized_conv(x, block.norm1.of, conv1, buffers)
            shortcut = None if block.shortcut is None else block.shortcut.of
            y = strips.normalized_conv(h, block.norm2.of, conv2, buffers, x.pixels, shortcut)
            buffers.give(h.pixels, x.pixels)
            x = y
        if upsample is None:
            return x
        y = strips.upsampled_conv(x, upsample, buffers)
        buffers.give(x.pixels)
        return y

    def _conv(self, conv: Conv, width: int) -> RowConv | tuple[Tensor, Tensor]:
        """Return a convolution for rows of this width; the faster one is made at its first use."""
        fast = self._row_convs.get(id(conv))
        if fast is None:
            fast = self._row_convs[id(conv)] = RowConv(conv.weight, conv.bias)
        return fast if fast.suits(width) else conv.of


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

    def level(self, name: str, num_blocks: int, has_attention: bool, is_last: bool) -> Level:
        return Level(
            tuple(self.block(f"{name}.block.{index}") for index in range(num_blocks)),
            tuple(self.attention(f"{name}.attn.{index}") for index in range(num_blocks))
            if has_attention
            else (),
            None if is_last else self.conv(f"{name}.upsample.conv"),
        )


def load_detokenizer(
    tensors: Tensors, config: DalleConfig, dtype: torch.dtype, device: str
) -> Detokenizer:
    """Return the detokenizer, ready on its device."""
    sizes = config.detokenizer
    load = _Loader(tensors, sizes.norm_groups, dtype, device)
    mid: list[ResnetBlock | AttentionBlock] = [
        load.block("decoder.mid.block_1"),
        load.block("decoder.mid.block_2"),
    ]
    if sizes.mid_attention:
        mid.insert(1, load.attention("decoder.mid.attn_1"))
    last = len(sizes.channels) - 1
    return Detokenizer(
        embedding=load.tensor("embedding.weight"),
        post_quant_conv=load.conv("post_quant_conv"),
        conv_in=load.conv("decoder.conv_in"),
        mid=tuple(mid),
        levels=tuple(
            load.level(
                f"decoder.up.{last - level}",  # min-dalle counts from the highest resolution
                sizes.blocks_per_level,
                level in sizes.attention_levels,
                is_last=level == last,
            )
            for level in range(last + 1)
        ),
        norm_out=load.norm("decoder.norm_out"),
        conv_out=load.conv("decoder.conv_out"),
    )
