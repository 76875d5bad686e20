"""The network of tiny_match: a tower of texts and two of images, for subjects and for styles.

Takes token rows and pixels; returns unit vectors, whose product says how well a text fits an image.
The towers for subjects see shapes at low resolution, those for styles edges and the palette at
full resolution; nothing that one learns of a subject enters what the other says of a style. Knows
no prompts, no files and no training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PATCH = 4  # pixels of an edge that become channels first
NUM_MOMENTS = 15  # channels of a color and its waves, see Palette


@dataclass(frozen=True)
class MatchSize:
    """The sizes of a network."""

    num_words: int = 2716
    text_length: int = 24
    text_width: int = 96
    num_heads: int = 4
    subject_px: int = 80
    style_px: int = 160
    subject_widths: tuple[int, ...] = (64, 144, 256)
    style_widths: tuple[int, ...] = (32, 64, 96)
    palette_width: int = 64
    subject_dim: int = 128
    style_dim: int = 32

    def to_plain(self) -> dict[str, Any]:
        """Return the sizes as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> MatchSize:
        """Return the sizes that JSON holds."""
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
        }
        return cls(**sizes)


class Trunk(nn.Sequential):
    """Convolutions over patches: pixels [batch, 3, px, px] to features [batch, 2 * width]."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for number, (wide_in, wide_out) in enumerate(pairwise((3 * PATCH**2, *widths))):
            if number:
                layers.append(nn.MaxPool2d(2))
            for channels in (wide_in, wide_out):
                layers += [nn.Conv2d(channels, wide_out, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(wide_out), nn.SiLU()]
        super().__init__(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the mean and the largest value of every feature."""
        hidden = super().forward(F.pixel_unshuffle(pixels * 2 - 1, PATCH))
        return torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1)


class Palette(nn.Sequential):
    """Which colors a picture has, wherever they are: a histogram with learned bins."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(NUM_MOMENTS, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels [batch, 3, px, px] to shares [batch, width]."""
        few = pixels[:, :, 2::4, 2::4]  # fills are flat: a sixteenth of the pixels tells as much
        angles = [2 * math.pi * turns * few for turns in (1, 2)]  # neighbors in color come apart
        waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        return super().forward(torch.cat([few, *waves], 1)).mean((2, 3))


class TextTower(nn.Module):
    """One attention over the words, then one question about the subject and one about the style."""

    def __init__(self, size: MatchSize) -> None:
        super().__init__()
        width = size.text_width
        self.num_heads = size.num_heads
        self.words = nn.Embedding(size.num_words, width)
        self.places = nn.Embedding(size.text_length, width)
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width)
        )
        self.norm_out = nn.LayerNorm(width)
        self.questions = nn.Linear(width, 2)
        self.subject = nn.Linear(width, size.subject_dim)
        self.style = nn.Linear(width, size.style_dim)

    def forward(self, tokens: Tensor, pad: int) -> tuple[Tensor, Tensor]:
        """Map tokens [text, length] to unit vectors of subjects and of styles [text, dim]."""
        is_word = tokens != pad
        x = self.words(tokens) + self.places.weight[: tokens.shape[1]]
        batch, length, width = x.shape
        heads = self.queries_keys_values(self.norm(x)).view(batch, length, 3, self.num_heads, -1)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        fits = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        attended = fits.masked_fill(~is_word[:, None, None, :], -torch.inf).softmax(-1) @ values
        x = x + self.join(attended.transpose(1, 2).reshape(batch, length, width))
        x = self.norm_out(x + self.mlp(self.norm_mlp(x)))
        weights = self.questions(x).masked_fill(~is_word[:, :, None], -torch.inf).softmax(1)
        asked = torch.einsum("tlq,tlw->qtw", weights, x)
        return F.normalize(self.subject(asked[0]), dim=-1), F.normalize(
            self.style(asked[1]), dim=-1
        )


class MatchNetwork(nn.Module):
    """All towers, and how sharply a product of vectors tells one text from another."""

    def __init__(self, size: MatchSize) -> None:
        super().__init__()
        self.size = size
        self.text = TextTower(size)
        self.subject_trunk = Trunk(size.subject_widths)
        self.subject_head = nn.Linear(2 * size.subject_widths[-1], size.subject_dim)
        self.style_trunk = Trunk(size.style_widths)
        self.palette = Palette(size.palette_width)
        self.style_head = nn.Linear(2 * size.style_widths[-1] + size.palette_width, size.style_dim)
        self.log_scale = nn.Parameter(torch.tensor([2.5, 2.0]))  # of subjects, of styles

    def subjects(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [image, 3, row, column] to unit vectors of subjects."""
        features = self.subject_trunk(shrink(pixels, self.size.subject_px))
        return F.normalize(self.subject_head(features), dim=-1)

    def styles(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [image, 3, row, column] to unit vectors of styles."""
        pixels = shrink(pixels, self.size.style_px)
        features = torch.cat([self.style_trunk(pixels), self.palette(pixels)], 1)
        return F.normalize(self.style_head(features), dim=-1)


def shrink(pixels: Tensor, size_px: int) -> Tensor:
    """Bring pixels [image, 3, row, column] to a square of `size_px`."""
    if pixels.shape[-2:] == (size_px, size_px):
        return pixels
    if pixels.shape[-2] == pixels.shape[-1] and pixels.shape[-1] % size_px == 0:
        return F.avg_pool2d(pixels, pixels.shape[-1] // size_px)
    is_smaller = min(pixels.shape[-2:]) < size_px
    mode = "bilinear" if is_smaller else "area"
    return F.interpolate(pixels, (size_px, size_px), mode=mode)
