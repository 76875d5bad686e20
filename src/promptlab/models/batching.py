"""Batches that survive: out of memory halves them, a failing request fails alone.

Takes requests and a function that draws one batch; yields one result a request. Knows neither
tensors nor any model, so every backend can use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from promptlab.records import Request, Result

log = logging.getLogger(__name__)

DrawBatch = Callable[[Sequence[Request]], Sequence[Result]]


def draw_in_batches(
    requests: Sequence[Request], batch_size: int, draw_batch: DrawBatch
) -> Iterator[Result]:
    """Yield one result per request, in order, drawing at most `batch_size` together.

    When a batch runs out of memory it is drawn again in halves, and later batches stay at the
    smaller size. When it fails otherwise its requests are drawn one by one, so that the error
    lands on the request that causes it.
    """
    start = 0
    while start < len(requests):
        batch = requests[start : start + batch_size]
        try:
            results = draw_batch(batch)
        except Exception as error:
            if is_out_of_memory(error) and len(batch) > 1:
                batch_size = (len(batch) + 1) // 2
                log.warning("Out of memory: going on with batches of %d.", batch_size)
                continue
            if len(batch) == 1:
                results = [Result(batch[0], error=describe_error(error))]
            else:
                results = [_draw_alone(request, draw_batch) for request in batch]
        yield from results
        start += len(batch)


def _draw_alone(request: Request, draw_batch: DrawBatch) -> Result:
    try:
        (result,) = draw_batch([request])
    except Exception as error:
        return Result(request, error=describe_error(error))
    return result


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on any device.

    torch raises its own type on accelerators and a plain RuntimeError on a CPU.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def describe_error(error: BaseException) -> str:
    """Return one line for an image's `error` column: the type and the message's first line."""
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
