"""Small models with the real protocol, for tests of everything that is not a model.

They draw at once and deterministically: a picture is a few rectangles whose colors hash the
request, so that two requests look different and the same request gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from promptlab.errors import WeightsMissingError
from promptlab.identity import canonical_json
from promptlab.models.protocol import Parameter
from promptlab.records import Numerics, Request, Result

PARAMETERS = {
    "temperature": Parameter(float, 1.0, 0.01, 10.0),
    "top_k": Parameter(int, 64, 1, 1000),
    "supercondition_factor": Parameter(float, 3.0, 0.0, 100.0),
}


@dataclass
class PaintModel:
    """Paints rectangles whose colors hash the request."""

    name: str = "paint"
    fingerprint: str = "0123456789abcdef"
    size: int = 32  # px a side
    batch_size: int = 8
    delay_s: float = 0.0  # an image's time, to have something to interrupt
    fails_on: str = ""  # prompts with this text cannot be drawn
    dtype: str = "float32"
    device: str = "cpu"
    weights_missing: bool = False
    brightness: int = 0  # levels by which the pixels differ, as on another kind of processor
    lost_after: int | None = None  # images after which the device is gone
    is_deterministic: bool = True

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return self.size, self.size

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Those of the DALL·E family."""
        return PARAMETERS

    def load(self) -> None:
        """Note the call; fail if the weights are said to be missing."""
        CALLS.append(f"load {self.name}")
        if self.weights_missing:
            raise WeightsMissingError(f"The weights of {self.name} are not here.")

    def unload(self) -> None:
        """Note the call."""
        CALLS.append(f"unload {self.name}")

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, batch by batch."""
        for start in range(0, len(requests), self.batch_size):
            batch = requests[start : start + self.batch_size]
            CALLS.append(f"draw {self.name} {len(batch)}")
            for number, request in enumerate(batch, start):
                if number == self.lost_after:
                    raise RuntimeError("CUDA error: unspecified launch failure")
                time.sleep(self.delay_s)
                if self.fails_on and self.fails_on in request.prompt:
                    yield Result(request, error=f"ValueError: {self.fails_on} cannot be painted")
                    continue
                pixels = paint(request, self.size) ^ np.uint8(self.brightness)
                yield Result(request, pixels, seconds=0.01, batch_size=len(batch))


@dataclass
class WordModel(PaintModel):
    """Knows few words, leaves the others out of a prompt, and takes money for an image."""

    knows: str = "a fox robot"
    price_usd: float | None = None

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Return the words that it leaves out."""
        return [word for word in prompt.split() if word not in self.knows.split()]

    def price_of(self, request: Request) -> float | None:
        """Return the price of any image."""
        return self.price_usd

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, of its known words alone."""
        for result in super().draw(requests):
            request, unknown = result.request, self.unknown_words(result.request.prompt)
            known = " ".join(word for word in request.prompt.split() if word not in unknown)
            yield dataclasses.replace(
                result,
                pixels=paint(dataclasses.replace(request, prompt=known), self.size),
                unseen=" ".join(unknown),
                cost_usd=self.price_usd,
            )


FREE_MEMORY = {"images": 8}


@dataclass
class PaddedModel(PaintModel):
    """Pads its batches to a size that shows in the pixels and that free memory decides."""

    batch_size: int = 0  # 0: FREE_MEMORY

    def describe(self) -> Numerics:
        """Return the numerics, the padded size among them."""
        return Numerics(self.device, self.dtype, self.batch_size or FREE_MEMORY["images"])

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, marked with the size of the batch."""
        size = self.batch_size or FREE_MEMORY["images"]
        for request in requests:
            yield Result(request, paint(request, self.size) ^ np.uint8(size), batch_size=size)


class OverpaintModel(PaintModel):
    """Paints over the image that a request is drawn from, if it has one."""

    takes_source = True

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request: its own tiles mixed with the source's pixels."""
        for result in super().draw(requests):
            source = result.request.source
            if source is not None and result.pixels is not None:
                below = np.asarray(Image.open(io.BytesIO(source.png)))
                result = dataclasses.replace(result, pixels=result.pixels ^ below)
            yield result


class VaryModel(OverpaintModel):
    """Paints over its source with a strength that is a parameter."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Those of the DALL·E family, and the strength."""
        strength = Parameter(float, 0.5, 0.0, 1.0, is_for_source=True)
        return {**PARAMETERS, "strength": strength}


class RoundingModel(PaintModel):
    """Paints other pixels in other number formats, as real models do."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, with the last bits turned in half precision."""
        for result in super().draw(requests):
            if result.pixels is not None and self.dtype != "float32":
                result = dataclasses.replace(result, pixels=result.pixels ^ np.uint8(1))
            yield result


CALLS: list[str] = []  # what models of this process were asked to do, in order


def paint(request: Request, size: int) -> np.ndarray:
    """Return uint8 pixels [size, size, 3] that hash the request."""
    text = canonical_json([request.prompt, request.seed, dict(request.params)])
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    tiles = np.frombuffer(digest[:27], dtype=np.uint8).reshape(3, 3, 3)
    rows = np.arange(size) * 3 // size
    return tiles[rows][:, rows]


class RecordingCallback:
    """A Hydra callback that notes what it is told, as any user's own would."""

    def on_job_start(self, config: DictConfig, **kwargs: object) -> None:
        """Note the job's number and subject; a run without --multirun has no number."""
        CALLS.append(f"start {OmegaConf.select(config, 'hydra.job.num')} {config.subject}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: object) -> None:
        """Note how the job ended."""
        number = OmegaConf.select(config, "hydra.job.num")
        CALLS.append(f"end {number} {job_return.status.name}")

    def __getattr__(self, name: str) -> object:
        """Take every other event."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda **kwargs: CALLS.append(name)
