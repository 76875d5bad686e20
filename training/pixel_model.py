"""Pixels to tokens and back, in training form: names and mathematics as the engine's detokenizer.

Takes images or tokens in batches; returns code vectors and pixels, differentiable. The detokenizer
is min-dalle's VQGAN decoder with sizes as configuration; the image encoder with its finite scalar
quantizer is needed in training only. Does not know about data, losses or files.

The first token of a picture, its top left corner, is no code of the quantizer: it names the style.
A code says what its 16 pixels of a picture look like, and a hundred of them leave no room for how
this style draws an edge or mixes its red; said once, and carried everywhere by attention, it costs
one corner, which is background nearly always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True)
class DetokenizerSize:
    """Sizes of the image tokenizer and detokenizer; channels from the lowest resolution up."""

    levels: tuple[int, ...] = (8, 5, 5, 5)  # of the finite scalar quantizer, one per channel
    num_styles: int = 10  # tokens behind the codes; the first token of a picture is one of them
    channels: tuple[int, ...] = (128, 128, 96, 32, 32)
    blocks_per_level: int = 1
    attention_levels: tuple[int, ...] = (0,)  # besides the attention in the middle
    norm_groups: int = 8
    image_grid: int = 10

    @classmethod
    def of_grid(cls, grid: int) -> DetokenizerSize:
        """The size for a token grid: 10 gives 160 px on a CPU's budget, 16 gives 128 px."""
        if grid == 16:
            return cls(image_grid=16, channels=(128, 128, 64, 32))
        return cls(image_grid=grid)

    @property
    def num_codes(self) -> int:
        """Tokens that say what a place of the picture looks like."""
        return math.prod(self.levels)

    @property
    def vocab_size(self) -> int:
        """All tokens: the codes, then the styles."""
        return self.num_codes + self.num_styles

    @property
    def embed_width(self) -> int:
        """Channels of a token's vector: the quantizer's, then one for each style."""
        return len(self.levels) + self.num_styles

    @property
    def image_size_px(self) -> int:
        """Pixels a side: every level but the last doubles the resolution."""
        return self.image_grid * 2 ** (len(self.channels) - 1)


class ResnetBlock(nn.Module):
    """Two normalized 3x3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channels_in, row, column] to [batch, channels_out, row, column]."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + hidden


class AttentionBlock(nn.Module):
    """One head of attention over all places of a feature map."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channel, row, column] to itself."""
        hidden = self.norm(x)
        query, key, value = (layer(hidden).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(query.transpose(1, 2) @ key * x.shape[1] ** -0.5, 2)
        mixed = (value @ weights.to(value.dtype).transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.proj_out(mixed)


class Middle(nn.Module):
    """The blocks at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channel, row, column] to itself."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Upsample(nn.Module):
    """Nearest-neighbor doubling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Double both sides."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UpLevel(nn.Module):
    """The blocks of one resolution, and the step to the next."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        num_blocks: int,
        groups: int,
        has_attention: bool,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResnetBlock(channels_in if j == 0 else channels, channels, groups)
            for j in range(num_blocks)
        )
        if has_attention:
            self.attn = nn.ModuleList(AttentionBlock(channels, groups) for _ in range(num_blocks))
        if not is_last:
            self.upsample = Upsample(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channels_in, row, column] to the next level's input."""
        for index, block in enumerate(self.block):
            x = block(x)
            if hasattr(self, "attn"):
                x = self.attn[index](x)
        return self.upsample(x) if hasattr(self, "upsample") else x


class PixelDecoder(nn.Module):
    """Vectors on the token grid to pixels."""

    def __init__(self, size: DetokenizerSize) -> None:
        super().__init__()
        channels, groups = size.channels, size.norm_groups
        self.conv_in = nn.Conv2d(size.embed_width, channels[0], 3, padding=1)
        self.mid = Middle(channels[0], groups)
        last = len(channels) - 1
        self.up = nn.ModuleList(  # min-dalle counts from the highest resolution down
            UpLevel(
                channels[max(level - 1, 0)],
                channels[level],
                size.blocks_per_level,
                groups,
                level in size.attention_levels,
                level == last,
            )
            for level in reversed(range(last + 1))
        )
        self.norm_out = nn.GroupNorm(groups, channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map vectors [batch, embed, row, column] to pixels in 0..1 [batch, 3, row, column]."""
        z = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            z = level(z)
        return self.conv_out(F.silu(self.norm_out(z)))


class Detokenizer(nn.Module):
    """Image tokens to pixels; its embedding is the fixed table of codes and styles.

    One row more stands for what is not drawn yet, as previews of an image show it.
    """

    def __init__(self, size: DetokenizerSize) -> None:
        super().__init__()
        table = F.pad(token_table(size), (0, 0, 0, 1))
        self.embedding = nn.Embedding.from_pretrained(table, freeze=True)
        self.post_quant_conv = nn.Conv2d(size.embed_width, size.embed_width, 1)
        self.decoder = PixelDecoder(size)

    def decode(self, vectors: Tensor) -> Tensor:
        """Map tokens' vectors [batch, embed, row, column] to pixels, about 0..1, unclipped."""
        return self.decoder(self.post_quant_conv(vectors))

    @torch.no_grad()
    def show_missing_as(self, code: int) -> None:
        """What is not drawn yet shall look like this code's place: white paper, say."""
        self.embedding.weight[-1] = self.embedding.weight[code]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [batch, token] of a square grid to pixels [batch, 3, row, column]."""
        grid = math.isqrt(tokens.shape[1])
        return self.decode(self.embedding(tokens).transpose(1, 2).unflatten(2, (grid, grid)))


class ImageEncoder(nn.Module):
    """Pixels to code vectors before quantization; training only."""

    def __init__(self, size: DetokenizerSize) -> None:
        super().__init__()
        fine, middle, coarse = 96, 128, 160
        groups = size.norm_groups
        self.stem = nn.Conv2d(48, fine, 3, padding=1)
        stages: list[nn.Module] = [ResnetBlock(fine, fine, groups), ResnetBlock(fine, fine, groups)]
        widths = {3: [fine, middle], 4: [fine, middle, coarse]}[len(size.channels) - 1]
        for wide_in, wide_out in pairwise(widths):
            stages += [
                nn.Conv2d(wide_in, wide_out, 4, stride=2, padding=1),
                ResnetBlock(wide_out, wide_out, groups),
                ResnetBlock(wide_out, wide_out, groups),
            ]
        self.stages = nn.Sequential(*stages)
        self.norm_out = nn.GroupNorm(groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], len(size.levels), 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, row, column] to [batch, embed, grid, grid]."""
        hidden = self.stem(F.pixel_unshuffle(pixels * 2 - 1, 4))
        return self.conv_out(F.silu(self.norm_out(self.stages(hidden))))


def code_table(levels: tuple[int, ...]) -> Tensor:
    """All codes of a finite scalar quantizer, [code, channel] in -1..1, first digit lowest."""
    codes = torch.arange(math.prod(levels))
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(
        [(digit - level // 2) / (level // 2) for digit, level in zip(digits, levels, strict=True)],
        1,
    ).float()


def token_table(size: DetokenizerSize) -> Tensor:
    """The vectors of all tokens [token, embed]: codes in the first channels, styles one-hot."""
    codes = F.pad(code_table(size.levels), (0, size.num_styles))
    styles = F.pad(torch.eye(size.num_styles), (len(size.levels), 0))
    return torch.cat([codes, styles])


def mark_style(tokens: Tensor, styles: Tensor, size: DetokenizerSize) -> Tensor:
    """Put the style's token in the place of the first of `tokens` [batch, token]."""
    return torch.cat([(size.num_codes + styles)[:, None], tokens[:, 1:]], 1)


def style_of(tokens: Tensor, size: DetokenizerSize) -> Tensor:
    """The styles [batch] that the first of `tokens` [batch, token] name."""
    return tokens[:, 0] - size.num_codes


def vectors_of(codes: Tensor, styles: Tensor, size: DetokenizerSize) -> Tensor:
    """Vectors [batch, embed, row, column] of codes [batch, channel, row, column] and a style each.

    As looking up `mark_style`'s tokens, but differentiable in the codes.
    """
    vectors = F.pad(codes, (0, 0, 0, 0, 0, size.num_styles))
    first = token_table(size).to(codes)[size.num_codes + styles]
    is_first = torch.zeros(codes.shape[2:], dtype=torch.bool, device=codes.device)
    is_first[0, 0] = True
    return torch.where(is_first, first[:, :, None, None], vectors)


def quantize(z: Tensor, levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Round encoder outputs [batch, channel, row, column] to codes, straight-through.

    Finite scalar quantization (Mentzer et al. 2023). Returns the code vectors and the token
    numbers [batch, row * column].
    """
    shape = (1, -1, 1, 1)
    num = torch.tensor(levels, dtype=torch.float32, device=z.device).view(shape)
    half_range = (num - 1) * 1.001 / 2
    offset = torch.where(num % 2 == 0, 0.5, 0.0)
    shift = torch.atanh(offset / half_range)
    bounded = torch.tanh(z.float() + shift) * half_range - offset
    rounded = bounded + (bounded.round() - bounded).detach()
    half_width = (num / 2).floor()
    digits = (rounded.detach() + half_width).round().long()
    basis = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))], device=z.device)
    tokens = (digits * basis.view(shape)).sum(1).flatten(1)
    return rounded / half_width, tokens
