"""Interpolation with Lanczos' kernel: the baseline that needs no weights.

Takes uint8 pixels, returns uint8 pixels four times as wide and high, by Pillow. Knows no network.
"""

from __future__ import annotations

import numpy as np

from promptlab.identity import hash_id


class LanczosUpscaler:
    """Pillow's Lanczos filter; satisfies protocol.Upscaler."""

    scale = 4
    device = "cpu"
    fingerprint = hash_id("Pillow's LANCZOS")

    def load(self) -> None:
        """Do nothing: it has no weights."""

    def unload(self) -> None:
        """Do nothing: it has no weights."""

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 [4 * height, 4 * width, 3] of uint8 [height, width, 3]."""
        from PIL import Image

        height, width, _ = pixels.shape
        size = (width * self.scale, height * self.scale)
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
