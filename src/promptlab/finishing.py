"""From a checked result to a finished image: hashed, encoded, with all that is known of it.

Takes what the engine yields, gives Drawn. Knows no cell, no file and no store. Encoding runs on
threads of its own, as many as keep up with the model: zlib and hashing leave Python's lock alone,
so other cores encode while the first draws.
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
from promptlab.machine import describe_numerics, usable_cores
from promptlab.png import compress, hash_pixels
from promptlab.records import Drawn, ImageFacts, Numerics, Result

log = logging.getLogger(__name__)

MAX_QUEUED_BYTES = 2**28  # of pixels: 1,365 images at 256 px, 85 at 1024 px
MIN_QUEUED = 16  # images


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
        source_sha256=None if source is None else source.sha256,
        is_source_repeatable=None if source is None else source.is_repeatable,
    )
    return Drawn(result.request, facts, None if pixels is None else compress(pixels, result.latent))


@contextmanager
def finishing(deliver: Callable[[Drawn], None]) -> Iterator[Callable[[Result, Numerics], None]]:
    """Give a function that takes a result and returns before its image is encoded.

    `deliver` gets every image on one thread, in order, as soon as it is finished. What it raises is
    raised at the next call or on leaving. However the block is left, every result that was taken
    has been delivered then.
    """
    waiting: deque[Future[None]] = deque()
    # A pool starts a thread only while all others are busy: a slow model has one.
    most_threads = max(1, usable_cores() // 2)

    with (
        ThreadPoolExecutor(most_threads, "promptlab-encode") as encoder,
        ThreadPoolExecutor(1, "promptlab-deliver") as deliverer,
    ):

        def take(result: Result, numerics: Numerics) -> None:
            num_bytes = 0 if result.pixels is None else result.pixels.nbytes
            most = max(MIN_QUEUED, MAX_QUEUED_BYTES // max(1, num_bytes))
            while waiting and (waiting[0].done() or len(waiting) >= most):
                waiting.popleft().result()
            # A model may draw the next image into the same array while this one is encoded.
            pixels = None if result.pixels is None else result.pixels.copy()
            kept = dataclasses.replace(result, pixels=pixels)
            finished = encoder.submit(finish, kept, numerics)
            waiting.append(deliverer.submit(lambda: deliver(finished.result())))

        try:
            yield take
        except BaseException:
            deliverer.shutdown()
            for error in filter(None, (future.exception() for future in waiting)):
                log.error("%s", error)
                break
            raise
    for future in waiting:
        future.result()
