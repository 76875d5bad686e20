"""Upscalers: take an image, give the same image larger, bit for bit the same alone or in any batch.

The functions here are what a config's `_target_` names; each returns a model whose requests have a
source. protocol.py is the contract; no upscaler knows prompts, cells or run folders.
"""

from __future__ import annotations

from promptlab.models.upscalers.model import UpscalerModel

__all__ = ["UpscalerModel", "open_embedded", "open_lanczos"]


def open_embedded(device: str = "auto") -> UpscalerModel:
    """Return Real-ESRGAN's animevideov3, whose weights ship with promptlab."""
    from promptlab.models.upscalers.compact import CompactUpscaler

    return UpscalerModel("animevideov3", CompactUpscaler(device))


def open_lanczos() -> UpscalerModel:
    """Return interpolation without weights: the baseline."""
    from promptlab.models.upscalers.lanczos import LanczosUpscaler

    return UpscalerModel("lanczos", LanczosUpscaler())
