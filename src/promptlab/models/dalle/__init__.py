"""DALL·E-family models: min-dalle's mini and mega, the small packaged one, any folder of theirs.

A config's `_target_` names one of the functions here. They are light: no torch, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from promptlab.errors import ConfigError
from promptlab.models.dalle.config import CONFIG_FROM_SIZE, read_config
from promptlab.models.dalle.model import DalleModel

__all__ = ["DalleModel", "open_folder", "open_min_dalle", "open_tiny"]

TINY_FOLDER = Path(__file__).resolve().parent.parent / "tiny"


def open_folder(
    folder: str, device: str = "auto", dtype: str = "auto", batch_size: int | None = None
) -> DalleModel:
    """Return the model of a folder with config.json, vocabulary and model.safetensors."""
    path = Path(folder).expanduser()
    return DalleModel(read_config(path), lambda: path, device, dtype, batch_size)


def open_tiny(
    device: str = "cpu", dtype: str = "float32", batch_size: int | None = None
) -> DalleModel:
    """Return the small model that ships with promptlab."""
    return open_folder(str(TINY_FOLDER), device, dtype, batch_size)


def open_min_dalle(
    size: Literal["mini", "mega"] = "mini",
    weights: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
) -> DalleModel:
    """Return min-dalle's mini or mega.

    `weights` is a folder in min-dalle's own layout; without one, ./pretrained is used if it holds
    them, else the Hugging Face repository kuprel/min-dalle and its cache.
    """
    if size not in CONFIG_FROM_SIZE:
        raise ConfigError(f"size={size!r}: expected one of {', '.join(CONFIG_FROM_SIZE)}.")
    config = CONFIG_FROM_SIZE[size]

    def locate() -> Path:
        from promptlab.models.dalle.min_dalle_files import converted_folder

        return converted_folder(size, weights)

    return MinDalleModel(config, locate, device, dtype, batch_size, size=size, weights=weights)


class MinDalleModel(DalleModel):
    """A model of min-dalle, which may have to be downloaded first."""

    def __init__(self, *arguments: Any, size: str, weights: str | None):
        super().__init__(*arguments)
        self._size, self._weights = size, weights

    @property
    def is_downloaded(self) -> bool:
        """Whether the weights are on this machine; asks no network."""
        from promptlab.models.dalle.min_dalle_files import is_present

        return is_present(self._size, self._weights)

    @property
    def words(self) -> Mapping[str, Path]:
        """None: min-dalle publishes no list of what it was trained on."""
        return {}
