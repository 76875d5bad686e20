"""An upscaler as promptlab's other stages see it: a model whose requests have a source.

Takes requests with the parent's PNG, yields the parent's picture enlarged; each image is computed
alone, so a batch cannot show in it. Knows no particular upscaler.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from promptlab.models.batching import describe_error
from promptlab.models.protocol import Parameter
from promptlab.models.upscalers.protocol import Upscaler
from promptlab.records import Request, Result, Scalar

USUAL_SOURCE_PX = 256  # side of a source, for estimates before any is known
MAX_OUTPUT_PIXELS = 200_000_000  # 14,000 × 14,000 px: a larger image is refused, not attempted


class UpscalerModel:
    """Satisfies promptlab.models.protocol.CompleteModel in all that matters for a source."""

    dtype = "float32"
    is_deterministic = True
    takes_source = True
    needs_source = True

    def __init__(self, name: str, upscaler: Upscaler) -> None:
        self.name = name
        self._upscaler = upscaler

    @property
    def fingerprint(self) -> str:
        """Hash of the upscaler's weights: 16 hex digits."""
        return self._upscaler.fingerprint

    @property
    def device(self) -> str:
        """Kind of device it runs on."""
        return self._upscaler.device

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in px of what a usual source becomes."""
        return self.size_of({"scale": self._upscaler.scale})

    def size_of(self, params: Mapping[str, Scalar]) -> tuple[int, int]:
        """Return (width, height) in px of what a usual source becomes."""
        side = USUAL_SOURCE_PX * int(str(params["scale"]))
        return side, side

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Its one parameter: how many times as large."""
        scale = self._upscaler.scale
        choices = tuple(factor for factor in range(2, scale + 1) if scale % factor == 0)
        return {
            "scale": Parameter(
                int, scale, choices=choices, description="times as wide and high as the source"
            )
        }

    def a1111(self, params: Mapping[str, Scalar]) -> str:
        """Return the parameters as A1111 writes them."""
        return f"Steps: 1, Postprocess upscale by: {params['scale']}, Upscaler: {self.name}"

    def load(self) -> None:
        """Bring the weights to the device."""
        self._upscaler.load()

    def unload(self) -> None:
        """Free the weights."""
        self._upscaler.unload()

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request; a source that cannot be read fails its request alone."""
        for request in requests:
            started = time.perf_counter()
            try:
                pixels = self._enlarge(request)
            except Exception as error:
                yield Result(request, error=describe_error(error))
            else:
                yield Result(request, pixels=pixels, seconds=time.perf_counter() - started)

    def _enlarge(self, request: Request) -> np.ndarray:
        from PIL import Image

        if request.source is None:
            raise ValueError("expected an image to enlarge, got a request without a source")
        picture = Image.open(io.BytesIO(request.source.png)).convert("RGB")
        scale = int(str(request.params["scale"]))
        if picture.width * picture.height * self._upscaler.scale**2 > MAX_OUTPUT_PIXELS:
            raise ValueError(
                f"{picture.width} × {picture.height} px would become more than "
                f"{MAX_OUTPUT_PIXELS:,} pixels: choose a smaller image"
            )
        enlarged = self._upscaler.upscale(np.asarray(picture))
        if scale == self._upscaler.scale:
            return enlarged
        size = (picture.width * scale, picture.height * scale)
        return np.asarray(Image.fromarray(enlarged).resize(size, Image.Resampling.BOX))
