"""The engine: one model resident, requests of any cell mixed, one checked result a request.

Takes a model and the pending requests; yields results as they finish. Knows nothing of cells,
files or MLflow. The batches themselves belong to the model (see models/batching.py); what is
guaranteed here holds for any model, a user's own included: every request is answered exactly
once, and a model that raises loses no image already drawn.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from promptlab.models.batching import describe_error
from promptlab.models.protocol import Model
from promptlab.records import Request, Result

CHUNK_SIZE = 4096  # requests handed to a model at once: bounds memory, far above any batch
BLACK = "every pixel is black"


def draw(model: Model, requests: Iterable[Request]) -> Iterator[Result]:
    """Load the model, draw every request, and free the model again."""
    model.load()
    try:
        remaining = iter(requests)
        while chunk := list(itertools.islice(remaining, CHUNK_SIZE)):
            yield from _draw_chunk(model, chunk)
    finally:
        model.unload()


def _draw_chunk(model: Model, chunk: Sequence[Request]) -> Iterator[Result]:
    """Draw one chunk; requests that a raising model left open are drawn again alone."""
    open_requests = {request.image_id: request for request in chunk}
    error_text = "the model returned no result for this request"
    try:
        yield from _answers(model, chunk, open_requests)
    except Exception as error:
        error_text = describe_error(error)
        if len(chunk) > 1:
            for request in list(open_requests.values()):
                yield from _draw_chunk(model, [request])
            return
    for request in open_requests.values():
        yield Result(request, error=error_text)


def _answers(
    model: Model, chunk: Sequence[Request], open_requests: dict[str, Request]
) -> Iterator[Result]:
    for result in model.draw(chunk):
        if open_requests.pop(result.request.image_id, None) is not None:
            yield check_result(result)


def check_result(result: Result) -> Result:
    """Return the result, failed if its pixels are no image, flagged if they show nothing.

    Expects uint8 [height, width, 3]; floats that are not finite, the usual sign of a broken
    half-precision run, are named as such. An image that is black all over is kept but flagged:
    safety filters and broken arithmetic make them, artists hardly.
    """
    pixels = result.pixels
    if result.error is not None:
        return dataclasses.replace(result, pixels=None)
    if pixels is None:
        return dataclasses.replace(result, error="the model returned neither pixels nor an error")
    if pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size:
        return result if pixels.any() else dataclasses.replace(result, flag=BLACK)
    if pixels.dtype.kind == "f" and not (abs(pixels) < float("inf")).all():
        problem = "the pixels are not finite (NaN or infinite)"
    else:
        problem = f"expected uint8 pixels [height, width, 3], got {pixels.dtype} {pixels.shape}"
    return dataclasses.replace(result, pixels=None, error=problem)
