"""Blocks in flight: each is finished while the next one is computed, and failures lose nothing.

Takes requests and something that queues and finishes blocks; yields one result a request, in order.
Knows nothing of tensors.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from promptlab.errors import ModelLostError
from promptlab.models.batching import describe_error, is_lost, is_out_of_memory
from promptlab.records import Request, Result

log = logging.getLogger(__name__)

Queued = TypeVar("Queued")
Answer = TypeVar("Answer")


class Blocks(Protocol[Queued]):
    """What computes blocks."""

    def most(self) -> int:
        """Return the largest number of images to decode together."""

    def queue(self, requests: Sequence[Request]) -> Queued:
        """Start a block, without waiting for it."""

    def finish(self, block: Queued) -> list[Result]:
        """Return the results of a block that was queued."""

    def shrink(self, num_images: int) -> None:
        """Free all memory that can be rebuilt; decode at most half of `num_images` from now on."""


@dataclass(frozen=True)
class Failure:
    """Why something failed, without the traceback that would keep its tensors alive."""

    text: str
    is_out_of_memory: bool


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    """An answer, or the failure in its place."""

    answer: Answer | None
    failure: Failure | None


def attempt(function: Callable[[], Answer]) -> Outcome[Answer]:
    """Call a function; raise ModelLostError if the device computes nothing more, else return."""
    try:
        return Outcome(function(), None)
    except ModelLostError:
        raise
    except Exception as error:
        if is_lost(error):
            raise ModelLostError(
                f"The GPU stopped: {describe_error(error)}. Images already drawn are kept; run the "
                "same command again to draw the rest."
            ) from error
        failure = Failure(describe_error(error), is_out_of_memory(error))
    return Outcome(None, failure)


def draw_overlapped(requests: Sequence[Request], blocks: Blocks[Queued]) -> Iterator[Result]:
    """Yield one result a request, in order.

    Out of memory halves the block. A block that fails otherwise is drawn one by one, so that the
    error lands on the request that causes it. A result's `seconds` are its share of the time since
    the last block was finished, so they add up to the time of all.
    """
    since = time.perf_counter()

    def timed(results: Sequence[Result]) -> Iterator[Result]:
        nonlocal since
        now = time.perf_counter()
        seconds, since = (now - since) / max(1, len(results)), now
        for result in results:
            yield dataclasses.replace(result, seconds=seconds)

    waiting: tuple[Sequence[Request], Queued] | None = None
    start = 0
    while start < len(requests) or waiting is not None:
        batch = requests[start : start + blocks.most()]
        queued = attempt(partial(blocks.queue, batch)) if batch else None
        if waiting is not None:
            finished, waiting = waiting, None
            yield from timed(_finish(blocks, *finished))
            del finished
        if queued is None:
            continue
        if queued.answer is not None:
            waiting = batch, queued.answer
            start += len(batch)
        elif queued.failure and queued.failure.is_out_of_memory and len(batch) > 1:
            blocks.shrink(len(batch))
            log.warning("Out of GPU memory: decoding at most %d images together.", blocks.most())
        else:
            for request in batch:
                yield from timed([_draw_alone(blocks, request)])
            start += len(batch)
        del queued


def _finish(blocks: Blocks[Queued], batch: Sequence[Request], queued: Queued) -> list[Result]:
    """Return a queued block's results; memory that can be rebuilt makes room for its pixels."""
    outcome = attempt(partial(blocks.finish, queued))
    if outcome.failure is not None and outcome.failure.is_out_of_memory:
        blocks.shrink(len(batch))
        outcome = attempt(partial(blocks.finish, queued))
        if outcome.failure is not None and outcome.failure.is_out_of_memory:
            # Pixels had enough memory when the model was loaded, and need it for any block.
            raise ModelLostError(
                f"No GPU memory is left for pixels: {outcome.failure.text}. Images already drawn "
                "are kept; close other programs that use the card, and run the same command again."
            )
    if outcome.answer is not None:
        return outcome.answer
    log.warning("Drawing %d images one by one: %s", len(batch), outcome.failure)
    return [_draw_alone(blocks, request) for request in batch]


def _draw_alone(blocks: Blocks[Queued], request: Request) -> Result:
    def draw() -> list[Result]:
        return blocks.finish(blocks.queue([request]))

    outcome = attempt(draw)
    if outcome.failure is not None and outcome.failure.is_out_of_memory:
        blocks.shrink(1)
        outcome = attempt(draw)
    if outcome.answer is not None:
        return outcome.answer[0]
    assert outcome.failure is not None
    advice = "; close other programs or use a smaller model" * outcome.failure.is_out_of_memory
    return Result(request, error=outcome.failure.text + advice)
