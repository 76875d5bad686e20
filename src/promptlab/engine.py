"""The engine: one model resident, requests of any cell mixed, one checked result a request.

Takes a model and the pending requests; yields results as they finish. Knows nothing of cells,
files or MLflow. The model makes its own batches (see models/batching.py). For any model, a user's
own included, every request is answered exactly once, and an error loses no image already drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from promptlab.errors import ModelLostError
from promptlab.models.batching import describe_error, is_lost
from promptlab.models.complete import complete
from promptlab.models.protocol import Model, OnPreview
from promptlab.records import Request, Result
from promptlab.redaction import redact_text

BLOCK_SIZE = 4096  # requests handed to a model at once: bounds memory, far above any batch
BLACK = "every pixel is black"


@contextmanager
def resident(model: Model) -> Iterator[None]:
    """Keep the model loaded for as long as the context is open."""
    model.load()
    try:
        yield
    finally:
        model.unload()


def draw_all(
    model: Model, requests: Iterable[Request], block_size: int = BLOCK_SIZE
) -> Iterator[Result]:
    """Load the model, draw every request block by block, and free the model again."""
    with resident(model):
        for block in cut_blocks(requests, block_size, complete(model).group_of):
            yield from draw(model, block)


def cut_blocks(
    requests: Iterable[Request], block_size: int, group_of: Callable[[Request], Hashable]
) -> Iterator[list[Request]]:
    """Yield blocks of at most `block_size` requests, each of one group, in the order given.

    Groups follow one another in the order of their first requests.
    """
    groups: dict[Hashable, list[Request]] = {}
    for request in requests:
        groups.setdefault(group_of(request), []).append(request)
    for group in groups.values():
        for start in range(0, len(group), block_size):
            yield group[start : start + block_size]


def draw(
    model: Model, block: Sequence[Request], on_preview: OnPreview | None = None
) -> Generator[Result, None, None]:
    """Draw a block on a loaded model; raises ModelLostError when the model cannot draw any more.

    `on_preview` gets the unfinished images of a model that can show them.
    When the model raises, what it left unanswered is drawn again in halves, so that the error
    meets the request that causes it and the others are still drawn together.
    """
    open_requests = {request.image_id: request for request in block}
    error_text = "the model returned no result for this request"
    try:
        yield from _answers(model, block, open_requests, on_preview)
    except ModelLostError:
        raise
    except Exception as error:
        if is_lost(error):
            raise ModelLostError(describe_error(error)) from error
        error_text = describe_error(error)
        if len(block) > 1:
            left = list(open_requests.values())
            middle = (len(left) + 1) // 2
            for half in filter(None, (left[:middle], left[middle:])):
                yield from draw(model, half, on_preview)
            return
    for request in open_requests.values():
        yield Result(request, error=error_text)


def _answers(
    model: Model,
    block: Sequence[Request],
    open_requests: dict[str, Request],
    on_preview: OnPreview | None,
) -> Iterator[Result]:
    if on_preview is None:
        results = model.draw(block)
    else:
        results = complete(model).draw_with_previews(block, on_preview)
    for result in results:
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
        return dataclasses.replace(result, pixels=None, error=redact_text(result.error))
    if pixels is None:
        return dataclasses.replace(result, error="the model returned neither pixels nor an error")
    if pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size:
        return result if pixels.any() else dataclasses.replace(result, flag=BLACK)
    if pixels.dtype.kind == "f" and not (abs(pixels) < float("inf")).all():
        problem = "the pixels are not finite (NaN or infinite)"
    else:
        problem = f"expected uint8 pixels [height, width, 3], got {pixels.dtype} {pixels.shape}"
    return dataclasses.replace(result, pixels=None, error=problem)
