"""Upscalers: take an image, give the same image larger, bit for bit the same alone or in any batch.

The functions here are what a config's `_target_` names; each returns a model whose requests have a
source. protocol.py is the contract; no upscaler knows prompts, cells or run folders.
"""

from __future__ import annotations

from promptlab.models.upscalers.model import UpscalerModel

__all__ = ["UpscalerModel", "open_embedded", "open_file", "open_lanczos"]


def open_embedded(device: str = "auto") -> UpscalerModel:
    """Return Real-ESRGAN's animevideov3, whose weights ship with promptlab."""
    from promptlab.models.upscalers.compact import CompactUpscaler

    return UpscalerModel("animevideov3", CompactUpscaler(device))


def open_file(path: str | None, scale: int = 4, device: str = "auto") -> UpscalerModel:
    """Return the upscaler in a file, by the file's name; `scale` is how many times it enlarges."""
    from pathlib import Path

    from promptlab.errors import ConfigError
    from promptlab.models.upscalers.files import FileUpscaler

    if not path:
        raise ConfigError(
            "model.path is not set: expected the file of an upscaler, such as "
            "model.path=upscalers/4x-mine.safetensors model.scale=4."
        )
    place = Path(path).expanduser()
    return UpscalerModel(place.stem, FileUpscaler(place, scale, device))


def open_lanczos() -> UpscalerModel:
    """Return interpolation without weights: the baseline."""
    from promptlab.models.upscalers.lanczos import LanczosUpscaler

    return UpscalerModel("lanczos", LanczosUpscaler())
