"""A loaded pipeline at work: requests in batches of a fixed size, each result exact.

Takes requests with settled parameters, yields one result a request. Knows no files but those of
LoRAs, and no identity.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from promptlab.models.batching import describe_error, draw_in_batches, is_lost, is_out_of_memory
from promptlab.models.diffusers.families import Family
from promptlab.models.diffusers.loading import make_scheduler
from promptlab.models.diffusers.loras import Adapters
from promptlab.models.diffusers.texts import Texts, accepted, shapes, stack
from promptlab.models.protocol import OnPreview
from promptlab.records import Request, Result

OnStep = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


class Painter:
    """Draws with one loaded pipeline."""

    def __init__(self, pipeline: Any, family: Family, loras: Path):
        self._pipeline, self._family = pipeline, family
        self._scheduler = pipeline.scheduler
        self._adapters = Adapters(pipeline, loras)
        self._texts = Texts(pipeline, family)

    @cached_property
    def _redrawer(self) -> Any:
        """The image-to-image pipeline of the same parts."""
        from diffusers import AutoPipelineForImage2Image

        pipeline = AutoPipelineForImage2Image.from_pipe(self._pipeline)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def draw(
        self, requests: Sequence[Request], on_preview: OnPreview | None = None, every: int = 1
    ) -> Iterator[Result]:
        """Yield one result per request; the requests are of one group."""

        def draw_batch(batch: Sequence[Request]) -> list[Result]:
            return self._draw_batch(batch, on_preview, every)

        try:
            self._adapters.apply(requests[0].params)
        except Exception as error:
            if is_lost(error):
                raise
            yield from (Result(request, error=describe_error(error)) for request in requests)
            return
        for batch in self._cut(requests):
            yield from draw_in_batches(batch, len(batch), draw_batch)

    def is_exact(self, request: Request, size: int) -> bool:
        """Whether a trial image has the same bits first and last in a batch of a size.

        It is as large as the request's and takes two steps. Raises what the pipeline raises, such
        as torch.OutOfMemoryError.
        """
        self._adapters.apply(request.params)
        params = {**request.params, "padded_batch": size, "steps": 2}
        if request.source is not None:
            params["strength"] = 1.0
        trial, *others = (
            Request(f"trial {seed}", "a red house", seed, params, request.source)
            for seed in range(size)
        )
        first = self._compute([trial, *others])[0]
        return first.tobytes() == self._compute([*others, trial])[-1].tobytes()

    def _cut(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Yield batches of requests whose texts have the same shapes, as they fill."""
        waiting: dict[Hashable, list[Request]] = {}
        shape: Hashable
        for request in requests:
            try:
                shape = shapes(self._texts.encode(request))
            except Exception:
                shape = None  # drawing it fails in the same way, and says why
            waiting.setdefault(shape, []).append(request)
            if len(waiting[shape]) == _size_of(request):
                yield waiting.pop(shape)
        yield from waiting.values()

    def _draw_batch(
        self, batch: Sequence[Request], on_preview: OnPreview | None, every: int
    ) -> list[Result]:
        """Return a batch's results; without memory all of them fail, as no other size may act."""
        start = time.perf_counter()
        on_step = None if on_preview is None else self._reporter(batch, on_preview, every)
        try:
            images = self._compute(batch, on_step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return [Result(request, error=_too_large(request)) for request in batch]
        seconds = (time.perf_counter() - start) / len(batch)
        unseen = [self._texts.unseen(request) for request in batch]
        return [
            Result(
                request,
                pixels,
                seconds=seconds,
                batch_size=_size_of(request),
                is_prompt_truncated=bool(end),
                unseen=end,
            )
            for request, pixels, end in zip(batch, images, unseen, strict=True)
        ]

    def _compute(self, batch: Sequence[Request], on_step: OnStep | None = None) -> list[np.ndarray]:
        """Return the pixels of a batch; copies of its last request fill it up."""
        params = batch[0].params
        filled = [*batch, *[batch[-1]] * (_size_of(batch[0]) - len(batch))]
        has_source = batch[0].source is not None
        pipeline = self._redrawer if has_source else self._pipeline
        name = str(params["scheduler"])
        pipeline.scheduler = make_scheduler(self._scheduler, name, self._family)
        arguments = accepted(pipeline.__call__, self._family.arguments(params))
        images = pipeline(
            **stack([self._texts.encode(request) for request in filled]),
            **arguments,
            **({"image": [read_source(request) for request in filled]} if has_source else {}),
            **({} if on_step is None else {"callback_on_step_end": on_step}),
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in filled],
            output_type="pt",
        ).images
        return [to_pixels(image) for image in images[: len(batch)]]

    def _reporter(self, batch: Sequence[Request], on_preview: OnPreview, every: int) -> OnStep:
        """Return a step callback that hands the half-drawn images on and changes nothing."""

        def report(pipeline: Any, step: int, _: Any, kept: dict[str, Any]) -> dict[str, Any]:
            if (step + 1) % every == 0:
                images = decode_preview(pipeline, kept["latents"][: len(batch)], batch[0])
                if images is not None:
                    on_preview(step + 1, batch, np.stack([to_pixels(image) for image in images]))
            return {}

        return report


def read_source(request: Request) -> Image.Image:
    """Return the picture that a request is drawn from, in the request's size.

    One of another size is scaled until it covers that size, and its middle is taken.
    """
    if request.source is None:
        raise ValueError("expected an image to draw from, got a request without a source")
    picture = Image.open(io.BytesIO(request.source.png)).convert("RGB")
    size = int(request.params["width"] or 0), int(request.params["height"] or 0)
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


@torch.no_grad()
def decode_preview(pipeline: Any, latents: torch.Tensor, request: Request) -> torch.Tensor | None:
    """Return what latents show after some of the steps: [image, 3, height, width] in [0, 1].

    None for FLUX.2, whose latents cannot be unpacked without what its call keeps to itself.
    """
    vae = pipeline.vae
    if latents.ndim == 3:  # [image, patch, channel]
        if not hasattr(pipeline, "_unpack_latents"):
            return None
        size = request.params["height"], request.params["width"]
        latents = pipeline._unpack_latents(latents, *size, pipeline.vae_scale_factor)
    mean, deviation = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is not None and deviation is not None:
        shape = (1, -1, *[1] * (latents.ndim - 2))
        latents = latents * latents.new_tensor(deviation).view(shape)
        latents = latents + latents.new_tensor(mean).view(shape)
    else:
        latents = latents / vae.config.get("scaling_factor", 1.0)
        latents = latents + (vae.config.get("shift_factor") or 0.0)
    images = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    if images.ndim == 5:  # a video of one frame
        images = images[:, :, 0]
    return (images / 2 + 0.5).clamp(0, 1).nan_to_num()


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """Return uint8 [height, width, 3] of an image in [0, 1], [3, height, width].

    One that is not finite is returned as it is: the engine reports that.
    """
    values = image.detach().float().permute(1, 2, 0)
    if torch.isfinite(values).all():
        values = (values * 255).round().to(torch.uint8)
    return np.ascontiguousarray(values.cpu().numpy())


def _size_of(request: Request) -> int:
    """Return how many images are computed together."""
    return int(request.params["padded_batch"] or 1)


def _too_large(request: Request) -> str:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    size, params = _size_of(request), request.params
    remedy = f"padded_batch={size // 2}" if size > 1 else "model.memory=offload, or low"
    return (
        f"out of memory with {size} images of {params['width']}×{params['height']} px in a "
        f"batch: set {remedy}"
    )
