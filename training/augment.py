"""Changes to pictures that a caption can name: color, background, place, size, turn, count.

Takes float pixels in 0..1 [3, row, column] or a batch of them; returns the same, changed. Does not
know about captions or tokens. Everything random comes in through an explicit generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage
from torch import Tensor

# Hue in degrees, saturation factor, value factor.
COLOR_WORDS: dict[str, tuple[float, float, float]] = {
    "red": (2, 1.1, 1.0),
    "orange": (28, 1.1, 1.0),
    "yellow": (50, 1.0, 1.05),
    "green": (125, 1.0, 0.9),
    "blue": (217, 1.1, 1.0),
    "purple": (275, 1.0, 0.95),
    "pink": (335, 0.6, 1.1),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "red": (0.94, 0.33, 0.31),
    "orange": (1.0, 0.66, 0.30),
    "yellow": (1.0, 0.88, 0.36),
    "green": (0.50, 0.80, 0.50),
    "blue": (0.45, 0.70, 0.96),
    "purple": (0.72, 0.55, 0.88),
    "pink": (0.98, 0.69, 0.78),
    "black": (0.10, 0.10, 0.12),
    "gray": (0.75, 0.75, 0.76),
}


def warp(
    pixels: Tensor,
    scale: Sequence[float],
    turn_deg: Sequence[float],
    shift: Sequence[Sequence[float]],
) -> Tensor:
    """Scale, turn and shift a batch [image, 3, row, column] on white; shifts in image widths."""
    matrices = []
    for factor, angle_deg, (right, down) in zip(scale, turn_deg, shift, strict=True):
        angle = math.radians(angle_deg)
        cos, sin = math.cos(angle) / abs(factor), math.sin(angle) / abs(factor)
        mirror = -1.0 if factor < 0 else 1.0
        x0, y0 = 2 * right, 2 * down
        matrices.append(
            [
                [mirror * cos, mirror * sin, -mirror * (cos * x0 + sin * y0)],
                [-sin, cos, sin * x0 - cos * y0],
            ]
        )
    theta = torch.tensor(matrices, dtype=pixels.dtype, device=pixels.device)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    ink = F.grid_sample(1 - pixels, grid, mode="bilinear", align_corners=False)
    return (1 - ink).clamp(0, 1)


def _hue_to_rgb(hue_deg: float, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV with one hue for all pixels [row, column] to RGB [3, row, column]."""
    sector = hue_deg / 60
    channels = []
    for offset in (5, 3, 1):
        k = (offset + sector) % 6
        weight = max(0.0, min(k, 4 - k, 1.0))
        channels.append(value * (1 - saturation * weight))
    return torch.stack(channels)


def recolor(pixels: Tensor, color: str) -> Tensor:
    """Give everything in a picture [3, row, column] one hue.

    What has a color keeps its shade; a drawing in black and white gets colored ink instead.
    """
    hue_deg, saturation_factor, value_factor = COLOR_WORDS[color]
    value, least = pixels.amax(0), pixels.amin(0)
    saturation = (value - least) / value.clamp(min=1e-4)
    is_colored = saturation > 0.12
    ink = (least < 0.9).float().mean().clamp(min=1e-4)
    share = (is_colored & (value > 0.2)).float().mean() / ink
    if share < 0.1:
        strong, bright = torch.tensor([0.85, 0.9 * value_factor], device=pixels.device)
        target = _hue_to_rgb(hue_deg, strong, bright)
        return pixels + (1 - pixels) * target.clamp(0, 1)[:, None, None] * 0.95
    strength = torch.where(is_colored, (saturation * saturation_factor).clamp(0.25, 1), saturation)
    painted = _hue_to_rgb(hue_deg, strength, (value * value_factor).clamp(0, 1))
    return torch.where(is_colored, painted, pixels)


def set_background(pixels: Tensor, color: str) -> Tensor:
    """Paint the white around (not inside) a drawing [3, row, column]."""
    white = (pixels.amin(0) > 0.96).cpu().numpy()
    labels, _ = ndimage.label(white)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.isin(labels, np.unique(border[border > 0]))
    outside = torch.from_numpy(ndimage.binary_dilation(touching, iterations=2)).to(pixels.device)
    paint = torch.tensor(BACKGROUNDS[color], device=pixels.device)[:, None, None]
    # Multiplying keeps the smooth edge: white becomes the color, ink stays ink.
    return torch.where(outside, pixels * paint, pixels)


def repeat_side_by_side(pixels: Tensor, count: int) -> Tensor:
    """Show a drawing [3, row, column] two, three or four times, smaller, on white."""
    places = {
        2: [(-0.25, 0.0), (0.25, 0.0)],
        3: [(0.0, -0.24), (-0.25, 0.24), (0.25, 0.24)],
        4: [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)],
    }[count]
    copies = pixels.expand(count, *pixels.shape)
    return warp(copies, [0.5] * count, [0.0] * count, places).amin(0)
