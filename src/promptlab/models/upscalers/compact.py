"""The embedded upscaler: Real-ESRGAN's small network for drawings, animevideov3, four times.

Takes uint8 pixels, returns uint8 pixels. The network is a chain of 3 × 3 convolutions and PReLUs
that ends in 48 channels, which become the 4 × 4 pixels of each input pixel and are added to the
input enlarged by repetition. Source: `SRVGGNetCompact` in Real-ESRGAN's realesrgan/archs and
BasicSR; the weights come from training/convert_upscaler.py. Knows nothing of requests.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptlab.errors import ModelError
from promptlab.models.machine import find_device
from promptlab.models.upscalers.tiles import upscale_in_tiles

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = Path(__file__).with_name("animevideov3_x4.safetensors")
SCALE = 4


class CompactUpscaler:
    """The embedded network; satisfies protocol.Upscaler. Computes in float32."""

    scale = SCALE

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._layers: list[tuple[Tensor, Tensor | None]] = []  # (weight, bias); a PReLU has none

    @functools.cached_property
    def device(self) -> str:
        """Kind of device it runs on."""
        return find_device() if self._device == "auto" else self._device

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights file: 16 hex digits."""
        return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]

    def load(self) -> None:
        """Read the weights to the device."""
        from safetensors.torch import load_file

        tensors = {
            name: tensor.float() for name, tensor in load_file(WEIGHTS, device=self.device).items()
        }
        num_layers = 1 + max(int(name.partition(".")[0]) for name in tensors)
        self._layers = [
            (tensors[f"{number}.weight"], tensors.get(f"{number}.bias"))
            for number in range(num_layers)
        ]

    def unload(self) -> None:
        """Free the weights."""
        self._layers = []

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 [4 * height, 4 * width, 3] of uint8 [height, width, 3]."""
        if not self._layers:
            raise ModelError("The upscaler is not loaded: call load() first.")
        num_convolutions = sum(bias is not None for _, bias in self._layers)
        return upscale_in_tiles(pixels, self._enlarge, SCALE, margin_px=num_convolutions)

    def _enlarge(self, pixels: np.ndarray) -> np.ndarray:
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            image = torch.tensor(pixels, device=self.device)
            image = image.permute(2, 0, 1)[None].float() / 255  # [1, channel, row, column]
            x = image
            for weight, bias in self._layers:
                if bias is None:
                    x = functional.prelu(x, weight)
                else:
                    x = functional.conv2d(x, weight, bias, padding=1)
            base = functional.interpolate(image, scale_factor=SCALE, mode="nearest")
            enlarged = functional.pixel_shuffle(x, SCALE) + base
            levels = enlarged.clamp(0, 1).mul(255).round().to(torch.uint8)
            return levels[0].permute(1, 2, 0).cpu().numpy()
