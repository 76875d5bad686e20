"""Large images in tiles that show no seams.

Takes an image, a function that enlarges a piece of it, and how far that function looks; returns
the whole image enlarged. Every tile is computed with a margin as wide as the function looks, and
the margin is cut off, so a tile's pixels are those of the whole image computed at once (up to the
order of sums in a convolution). The tiles depend on the image's size alone: the same image always
has the same ones. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

TILE_PX = 256  # side of a tile without its margin: about 0.4 GB in a network of 64 channels


def upscale_in_tiles(
    pixels: np.ndarray,
    enlarge: Callable[[np.ndarray], np.ndarray],
    scale: int,
    margin_px: int,
    tile_px: int = TILE_PX,
) -> np.ndarray:
    """Return uint8 [scale * height, scale * width, 3] of uint8 [height, width, 3]."""
    height, width, channels = pixels.shape
    whole = np.empty((height * scale, width * scale, channels), np.uint8)
    for top, bottom in _cut(height, tile_px):
        for left, right in _cut(width, tile_px):
            first_row, first_column = max(0, top - margin_px), max(0, left - margin_px)
            piece = pixels[first_row : bottom + margin_px, first_column : right + margin_px]
            above, before = (top - first_row) * scale, (left - first_column) * scale
            rows, columns = (bottom - top) * scale, (right - left) * scale
            whole[top * scale : bottom * scale, left * scale : right * scale] = enlarge(piece)[
                above : above + rows, before : before + columns
            ]
    return whole


def _cut(length: int, tile_px: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of pieces of about equal length, none longer than a tile."""
    num_pieces = -(-length // tile_px)
    for number in range(num_pieces):
        yield length * number // num_pieces, length * (number + 1) // num_pieces
