"""Batches that survive: out of memory halves them, a failing request fails alone.

Takes requests and a function that draws one batch; yields one result a request. Knows neither
tensors nor any model, so every backend can use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence

from promptlab.errors import ModelLostError
from promptlab.records import Request, Result
from promptlab.redaction import redact_text

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "unable to find an engine",
    "previous error during capture",
)

DrawBatch = Callable[[Sequence[Request]], Sequence[Result]]


def draw_in_batches(
    requests: Sequence[Request],
    batch_size: int,
    draw_batch: DrawBatch,
    group_of: Callable[[Request], Hashable] = lambda request: None,
) -> Iterator[Result]:
    """Yield one result per request, in order, drawing at most `batch_size` of a group together.

    When a batch runs out of memory it is drawn again in halves, and later batches stay at the
    smaller size. When it fails otherwise it is halved until the error meets the request that
    causes it. Raises ModelLostError when the device is gone: then no request is to blame.
    """
    start = 0
    while start < len(requests):
        batch = _next_batch(requests, start, batch_size, group_of)
        try:
            results = draw_batch(batch)
        except Exception as error:
            if is_out_of_memory(error) and len(batch) > 1:
                batch_size = (len(batch) + 1) // 2
                log.warning("Out of memory: batches hold %d images from now on.", batch_size)
                continue
            results = _draw_halves(batch, error, draw_batch)
        yield from results
        start += len(batch)


def _next_batch(
    requests: Sequence[Request],
    start: int,
    batch_size: int,
    group_of: Callable[[Request], Hashable],
) -> Sequence[Request]:
    """Return the requests from `start` on that share a group, at most `batch_size`."""
    batch = requests[start : start + batch_size]
    group = group_of(batch[0])
    for number, request in enumerate(batch):
        if group_of(request) != group:
            return batch[:number]
    return batch


def _draw_halves(batch: Sequence[Request], error: Exception, draw_batch: DrawBatch) -> list[Result]:
    """Draw the halves of a batch that failed; a single request keeps the error."""
    if isinstance(error, ModelLostError):
        raise error
    if is_lost(error):
        raise ModelLostError(describe_error(error)) from error
    if len(batch) == 1:
        return [Result(batch[0], error=describe_error(error))]
    middle = (len(batch) + 1) // 2
    results: list[Result] = []
    for half in (batch[:middle], batch[middle:]):
        try:
            results += draw_batch(half)
        except Exception as half_error:
            results += _draw_halves(half, half_error, draw_batch)
    return results


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on any device.

    torch raises its own type on accelerators and a plain RuntimeError on a CPU. CUDA's libraries
    have messages of their own; a capture reports what broke it as a previous error.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in OUT_OF_MEMORY)


def is_lost(error: BaseException) -> bool:
    """Tell whether an exception means that the device computes nothing any more.

    After most CUDA errors every further call of the process fails in the same way.
    """
    if is_out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or str(error).startswith("CUDA error")


def describe_error(error: BaseException) -> str:
    """Return one line for an image's `error` column: the type and the message's first line."""
    first_line = redact_text(next(iter(str(error).splitlines()), ""))
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
