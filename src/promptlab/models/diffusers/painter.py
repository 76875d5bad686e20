"""A loaded pipeline at work: requests in batches of a fixed size, each result exact.

Takes requests with settled parameters, yields one result a request. Knows no files but those of
LoRAs, and no identity.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptlab.errors import ModelError
from promptlab.models.batching import (
    describe_error,
    draw_in_batches,
    is_lost,
    is_out_of_memory,
)
from promptlab.models.diffusers.adapters import Adapters
from promptlab.models.diffusers.families import DEFAULT, Family
from promptlab.models.diffusers.pipeline import make_scheduler
from promptlab.models.diffusers.previews import decode_preview
from promptlab.models.diffusers.texts import Texts, shapes, stack
from promptlab.records import Request, Result, Scalar

log = logging.getLogger(__name__)

OnPreview = Callable[[int, Sequence[Request], np.ndarray], None]
OnStep = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


class Painter:
    """Draws with one loaded pipeline."""

    is_exact = True  # whether a trial image had the same bits in two batches

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        loras: Path,
        batch_size: int,
        group_of: Callable[[Request], Hashable],
    ):
        self._pipeline, self._family = pipeline, family
        self._batch_size, self._group_of = batch_size, group_of
        self._scheduler = pipeline.scheduler
        self._adapters = Adapters(pipeline, loras)
        self._texts = Texts(pipeline, family)

    def draw(
        self, requests: Sequence[Request], on_preview: OnPreview | None = None, every: int = 1
    ) -> Iterator[Result]:
        """Yield one result per request; neighbours of one group share batches."""

        def draw_batch(batch: Sequence[Request]) -> list[Result]:
            return self._draw_batch(batch, on_preview, every)

        for _, group in groupby(requests, key=self._group_of):
            members = list(group)
            try:
                self._adapters.apply(members[0].params)
            except Exception as error:
                if is_lost(error):
                    raise
                yield from (Result(request, error=describe_error(error)) for request in members)
                continue
            for batch in self._cut(members):
                yield from draw_in_batches(batch, self._batch_size, draw_batch)

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
            if len(waiting[shape]) == self._batch_size:
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
            return [Result(request, error=self._too_large(request)) for request in batch]
        seconds = (time.perf_counter() - start) / len(batch)
        results = []
        for request, pixels in zip(batch, images, strict=True):
            unseen = self._texts.unseen(request)
            results.append(
                Result(
                    request,
                    pixels,
                    seconds=seconds,
                    batch_size=self._batch_size,
                    is_prompt_truncated=bool(unseen),
                    unseen=unseen,
                )
            )
        return results

    def _compute(self, batch: Sequence[Request], on_step: OnStep | None = None) -> list[np.ndarray]:
        """Return the pixels of a batch; copies of its last request fill it up."""
        params = batch[0].params
        filled = [*batch, *[batch[-1]] * (self._batch_size - len(batch))]
        scheduler = str(params.get("scheduler", DEFAULT))
        self._pipeline.scheduler = make_scheduler(self._scheduler, scheduler, self._family)
        images = self._pipeline(
            **stack([self._texts.encode(request) for request in filled]),
            **self._family.arguments(params),
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in filled],
            **({} if on_step is None else {"callback_on_step_end": on_step}),
            output_type="pt",
        ).images
        return [to_pixels(image) for image in images[: len(batch)]]

    def _reporter(self, batch: Sequence[Request], on_preview: OnPreview, every: int) -> OnStep:
        """Return a step callback that hands the half-drawn images on and changes nothing."""

        def report(pipeline: Any, step: int, _: Any, kept: dict[str, Any]) -> dict[str, Any]:
            if (step + 1) % every == 0:
                images = decode_preview(pipeline, kept["latents"][: len(batch)], batch[0].params)
                if images is not None:
                    on_preview(step + 1, batch, np.stack([to_pixels(image) for image in images]))
            return {}

        return report

    def _too_large(self, request: Request) -> str:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size, params = self._batch_size, request.params
        remedy = f"model.batch_size={size // 2}" if size > 1 else "model.memory=offload, or low"
        return (
            f"out of memory with {size} images of {params['width']}×{params['height']} px in a "
            f"batch: set {remedy}"
        )

    def rehearse(self, params: Mapping[str, Scalar]) -> None:
        """Draw one image in two batches: as the first beside others, and as the last.

        Raises ModelError if that fails; if memory does not last, it names what to set.
        """
        trial, other = (Request(f"trial {seed}", "a red house", seed, params) for seed in (1, 2))
        others = [other] * (self._batch_size - 1)
        try:
            first = self._compute([trial, *others])[0]
            last = self._compute([*others, trial])[-1]
        except Exception as error:
            is_memory = is_out_of_memory(error)
            problem = self._too_large(trial) if is_memory else describe_error(error)
            raise ModelError(f"The trial image failed: {problem}") from error
        self.is_exact = first.tobytes() == last.tobytes()
        if not self.is_exact:
            log.warning(
                "The trial image came out otherwise in another batch: on this device this model's "
                "images do not repeat bit for bit."
            )


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """Return uint8 [height, width, 3] of an image in [0, 1], [3, height, width].

    One that is not finite is returned as it is: the engine reports that.
    """
    values = image.detach().float().permute(1, 2, 0)
    if torch.isfinite(values).all():
        values = (values * 255).round().to(torch.uint8)
    return np.ascontiguousarray(values.cpu().numpy())
