"""From image tokens to pixels: min-dalle's VQGAN decoder, generalised in its sizes.

Takes a batch of token grids, returns uint8 pixels. Weights and activations are channels-last. Knows
nothing of prompts, of sampling or of how many images make a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.config import DalleConfig

Tensors = Mapping[str, Tensor]
ROOT_EPSILON = torch.tensor(1e-5).sqrt()  # of what torch.nn.GroupNorm adds to the variance


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
        if x.device.type == "cpu":
            return functional.group_norm(x, self.num_groups, self.weight, self.bias)
        return channels_last_group_norm(x, self.num_groups, self.weight, self.bias)

    @property
    def of(self) -> tuple[int, Tensor, Tensor]:
        """Number of groups, weight and bias."""
        return self.num_groups, self.weight, self.bias

    def activated(self, x: Tensor) -> Tensor:
        """Return x normalized, times its own sigmoid."""
        return functional.silu(self(x), inplace=True)


def channels_last_group_norm(x: Tensor, num_groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Return group_norm of x [image, channel, height, width], which stays channels-last.

    torch's CUDA kernel copies such an image to another layout and back. Statistics, scale and
    shift are float32, which a reduction of half precision returns when it writes into float32;
    `weight` and `bias` must be float32, too.
    """
    num_images, channels, height, width = x.shape
    groups = x.permute(0, 2, 3, 1).reshape(num_images, height * width, num_groups, -1)
    mean = groups.mean((1, 3), dtype=torch.float32)  # [image, group]
    deviation = torch.std(groups, (1, 3), correction=0, out=torch.empty_like(mean))
    deviation.hypot_(ROOT_EPSILON)
    scale = weight.view(num_groups, -1) / deviation[:, :, None]
    shift = torch.addcmul(bias.view(num_groups, -1), mean[:, :, None], scale, value=-1)
    out = torch.empty_like(groups)
    torch.addcmul(shift[:, None], groups, scale[:, None], out=out)  # in float32, rounded once
    return out.view(num_images, height, width, channels).permute(0, 3, 1, 2)


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
        return to_pixels(self.paint(tokens))

    def paint(self, tokens: Tensor) -> Tensor:
        """Return the images [image, 3, height, width] as numbers, about 0 to 1."""
        x = self.embed(tokens)
        for level in self.levels:
            x = level(x)
        return self.conv_out(self.norm_out.activated(x))

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the first level's input."""
        x = self.embedding[tokens].permute(0, 3, 1, 2)  # channels-last in memory
        return self.conv_in(self.post_quant_conv(x))


def to_pixels(x: Tensor) -> Tensor:
    """Return uint8 [image, height, width, 3]: clipped, scaled and truncated, as in min-dalle."""
    x = x.to(torch.float32).clamp_(0.0, 1.0).mul_(255)
    return x.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def clamp_tokens(tokens: Tensor, network: Detokenizer) -> Tensor:
    """Return tokens that the network can decode.

    Unfinished images contain start tokens, which the detokenizer cannot decode: they become the
    last valid token.
    """
    return tokens.clamp(0, len(network.embedding) - 1)


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
        return GroupNorm(self.num_groups, weight.to(torch.float32), bias.to(torch.float32))

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
