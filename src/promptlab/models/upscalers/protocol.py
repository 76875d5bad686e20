"""The contract of every upscaler.

An upscaler takes the pixels of one image and returns them larger. It knows nothing of requests,
files or batches; model.py makes any upscaler a model.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Upscaler(Protocol):
    """Enlarges one image by a whole factor."""

    @property
    def fingerprint(self) -> str:
        """Hash of what determines the pixels: 16 hex digits. Needs no weights in memory."""

    @property
    def scale(self) -> int:
        """How many times as wide and as high an image comes out."""

    @property
    def device(self) -> str:
        """Kind of device it runs on: "cpu", "cuda", …"""

    def load(self) -> None:
        """Bring the weights to the device."""

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 [scale * height, scale * width, 3] of uint8 [height, width, 3].

        Any size from 1 × 1; the same pixels give the same answer every time.
        """

    def unload(self) -> None:
        """Free the weights."""
