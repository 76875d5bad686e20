"""Upscalers from files: any super-resolution network that spandrel recognizes.

Takes a path, gives an upscaler; the optional package spandrel (promptlab[upscale]) tells the
architecture by the file's tensors. It is imported by `load`. Knows nothing of requests.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import ModelError, WeightsMissingError
from promptlab.models.machine import find_device
from promptlab.models.upscalers.tiles import upscale_in_tiles

if TYPE_CHECKING:
    from torch import Tensor

TILE_PX = 512  # most images are one tile
MARGIN_PX = 64  # beyond this distance no pixel shows in another's last bits, in what was tried


class FileUpscaler:
    """A network in a file; satisfies protocol.Upscaler. Computes in float32."""

    def __init__(self, path: Path, scale: int, device: str = "auto") -> None:
        self.path, self.scale = path, scale
        self._device = device
        self._network: Any = None  # spandrel's descriptor of an image model
        if not path.is_file():
            raise WeightsMissingError(
                f"There is no upscaler at {path}: expected the file of a network, such as "
                "model.path=4x-mine.safetensors (see openmodeldb.info)."
            )

    @functools.cached_property
    def device(self) -> str:
        """Kind of device it runs on."""
        return find_device() if self._device == "auto" else self._device

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the file: 16 hex digits."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def load(self) -> None:
        """Read the network to the device; ModelError if it is none that enlarges RGB images."""
        spandrel = import_spandrel()
        try:
            network = spandrel.ModelLoader(device=self.device).load_from_file(str(self.path))
        except Exception as error:  # whatever a file of an unknown kind makes it raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ModelError(f"{self.path} is no upscaler that spandrel knows: {reason}") from error
        is_rgb = (network.input_channels, network.output_channels) == (3, 3)
        if not isinstance(network, spandrel.ImageModelDescriptor) or not is_rgb:
            raise ModelError(f"{self.path}: expected a network from RGB to RGB.")
        if network.scale != self.scale:
            raise ModelError(
                f"{self.path} enlarges {network.scale} times, and its config says {self.scale}: "
                f"set model.scale={network.scale}."
            )
        self._network = network.eval().float()

    def unload(self) -> None:
        """Free the weights."""
        self._network = None

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 [scale * height, scale * width, 3] of uint8 [height, width, 3].

        Networks whose every pixel sees the whole image are never cut into tiles.
        """
        if self._network is None:
            raise ModelError("The upscaler is not loaded: call load() first.")
        tile_px = TILE_PX if self._network.tiling.name == "SUPPORTED" else max(pixels.shape[:2])
        return upscale_in_tiles(pixels, self._enlarge, self.scale, MARGIN_PX, tile_px)

    def _enlarge(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            image: Tensor = torch.tensor(pixels, device=self.device)
            enlarged = self._network(image.permute(2, 0, 1)[None].float() / 255)
            levels = enlarged.clamp(0, 1).mul(255).round().to(torch.uint8)
            return levels[0].permute(1, 2, 0).cpu().numpy()


def import_spandrel() -> Any:
    """Return the package spandrel; ModelError if it is not installed.

    It takes three names from torchvision, for two architectures that enlarge nothing. torchvision
    imports beside the one build of torch that it was made for; elsewhere stand-ins take its place
    during the import, so that any torch will do.
    """
    if importlib.util.find_spec("spandrel") is None:
        raise ModelError(
            "Upscalers from files need spandrel, which is not installed: "
            "pip install 'promptlab[upscale]'."
        )
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        return importlib.import_module("spandrel")
    missing = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
    for name in missing:
        sys.modules[name] = types.ModuleType(name)
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(sys.modules[missing[-1]], name, None)
    try:
        return importlib.import_module("spandrel")
    finally:
        for name in missing:
            del sys.modules[name]
