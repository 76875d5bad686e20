"""From a checked result to a finished image: hashed, encoded, with all that is known of it.

Takes what the engine yields, gives Drawn. Knows no cell, no file and no store. Encoding runs on a
thread of its own: zlib and hashing leave Python's lock alone, so a second core encodes while the
first draws.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from promptlab.identity import escape_surrogates
from promptlab.machine import describe_numerics
from promptlab.png import compress, hash_pixels
from promptlab.records import Drawn, ImageFacts, Numerics, Result

log = logging.getLogger(__name__)

MAX_QUEUED = 64  # images: 13 MB at 256 px, 200 MB at 1024 px


def finish(result: Result, numerics: Numerics) -> Drawn:
    """Return the finished image of a checked result."""
    pixels, source = result.pixels, result.request.source
    height, width = (None, None) if pixels is None else pixels.shape[:2]
    error = result.error or result.flag
    facts = ImageFacts(
        status=result.status,
        error=error and escape_surrogates(error),  # it may quote the name of a file
        width=width,
        height=height,
        sha256=None if pixels is None else hash_pixels(pixels),
        prompt_truncated=result.is_prompt_truncated,
        unseen=escape_surrogates(result.unseen),
        seconds=float(result.seconds),
        cost_usd=result.cost_usd,
        batch_size=result.batch_size,
        device=numerics.device,
        dtype=numerics.dtype,
        numerics=describe_numerics(numerics.device),
        created_at=datetime.now(UTC),
        source_id=None if source is None else source.image_id,
    )
    return Drawn(result.request, facts, None if pixels is None else compress(pixels))


@contextmanager
def finishing(deliver: Callable[[Drawn], None]) -> Iterator[Callable[[Result, Numerics], None]]:
    """Give a function that takes a result and returns before its image is encoded.

    `deliver` gets every image on the encoding thread, in order, as soon as it is finished. What it
    raises is raised at the next call or on leaving. However the block is left, every result that
    was taken has been delivered then.
    """
    waiting: deque[Future[None]] = deque()

    def finish_and_deliver(result: Result, numerics: Numerics) -> None:
        deliver(finish(result, numerics))

    with ThreadPoolExecutor(1, "promptlab-encode") as encoder:

        def take(result: Result, numerics: Numerics) -> None:
            while waiting and (waiting[0].done() or len(waiting) >= MAX_QUEUED):
                waiting.popleft().result()
            # A model may draw the next image into the same array while this one is encoded.
            pixels = None if result.pixels is None else result.pixels.copy()
            kept = dataclasses.replace(result, pixels=pixels)
            waiting.append(encoder.submit(finish_and_deliver, kept, numerics))

        try:
            yield take
        except BaseException:
            encoder.shutdown()
            for error in filter(None, (future.exception() for future in waiting)):
                log.error("%s", error)
                break
            raise
    for future in waiting:
        future.result()
