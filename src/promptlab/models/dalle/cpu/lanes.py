"""Which threads compute: blocks, or images, side by side in one thread each, or all on one.

Takes requests and one function a lane that draws a block; yields one result a request, in order. In
a small model, threads that share a product wait for each other longer than the product takes. With
one block per thread, no thread waits for another: throughput is higher, and another busy program
costs only the CPU time it uses. An image's bits do not depend on the number of threads. Knows
nothing of what drawing a block means.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from promptlab.records import Request, Result

WIDEST = 512  # numbers in a state: wider models keep all threads busy with one product
MOST_LANES = 16  # Python's lock limits more
BLOCK_IMAGES = 32  # larger blocks are not faster


class Stopped(BaseException):
    """The results of a block are no longer wanted. No Exception: drawing again would not help."""


CheckWanted = Callable[[], None]  # raises Stopped
Lane = Callable[[Sequence[Request], CheckWanted], Sequence[Result]]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ThreadPolicy:
    """Lanes that draw blocks side by side, and threads that share the images of a lane."""

    num_lanes: int
    num_shares: int
    is_side_by_side: bool  # each lane computes in one thread

    @staticmethod
    def for_width(width: int) -> ThreadPolicy:
        """Return the policy for a model with states of this width, in torch's threads."""
        num_threads = min(torch.get_num_threads(), MOST_LANES)
        if width <= WIDEST:
            return ThreadPolicy(num_threads, 1, is_side_by_side=True)
        return ThreadPolicy(1, num_threads, is_side_by_side=False)

    def computing(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which torch uses the threads that the model's bits are made with."""
        return one_thread() if self.is_side_by_side else contextlib.nullcontext()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread in the current thread, and in those that start meanwhile."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def draw_side_by_side(
    requests: Sequence[Request], most: int, lanes: Sequence[Lane]
) -> Iterator[Result]:
    """Yield one result a request, in order, drawn in blocks of at most `most`.

    While the caller handles results, every lane draws up to two blocks ahead. When the caller
    closes the iterator, unfinished blocks are abandoned.
    """
    is_unwanted = threading.Event()
    idle: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    for lane in lanes:
        idle.put(lane)

    def check_wanted() -> None:
        if is_unwanted.is_set():
            raise Stopped

    def draw(block: Sequence[Request]) -> Sequence[Result]:
        lane = idle.get()
        try:
            return lane(block, check_wanted)
        finally:
            idle.put(lane)

    bounds = itertools.accumulate(block_lengths(len(requests), most, len(lanes)), initial=0)
    blocks = (requests[first:last] for first, last in itertools.pairwise(bounds))
    pool = one_thread_each(len(lanes))
    num_busy, ahead = min(len(lanes), len(requests)), 2 * len(lanes)
    try:
        pending = deque(pool.submit(draw, block) for block in itertools.islice(blocks, ahead))
        while pending:
            results = pending.popleft().result()
            pending.extend(pool.submit(draw, block) for block in itertools.islice(blocks, 1))
            for result in results:
                yield dataclasses.replace(result, seconds=result.seconds / num_busy)
    finally:
        is_unwanted.set()
        pool.shutdown(cancel_futures=True)


def map_side_by_side(
    lanes: Sequence[Callable[[Item], Answer]], items: Sequence[Item]
) -> list[Answer]:
    """Return every item's answer, in order; each lane handles one item at a time, in one thread."""
    if len(lanes) == 1:
        with one_thread():
            return [lanes[0](item) for item in items]
    idle: queue.LifoQueue[Callable[[Item], Answer]] = (
        queue.LifoQueue()
    )  # the most recently used lane first: its memory is in the cache
    for lane in lanes:
        idle.put(lane)

    def answer(item: Item) -> Answer:
        lane = idle.get()
        try:
            return lane(item)
        finally:
            idle.put(lane)

    with one_thread(), one_thread_each(max(1, min(len(lanes), len(items)))) as pool:
        return list(pool.map(answer, items))


def one_thread_each(num_lanes: int) -> ThreadPoolExecutor:
    """Return a pool of `num_lanes` threads, in each of which torch uses one thread."""
    return ThreadPoolExecutor(num_lanes, "lane", initializer=torch.set_num_threads, initargs=(1,))


def block_lengths(num_requests: int, most: int, num_lanes: int) -> list[int]:
    """Return the lengths of the blocks: the same number for every lane, so that none ends early.

    Full blocks come first; the last two of every lane share the rest as equally as possible.
    """
    num_rounds = -(-num_requests // (most * num_lanes))
    num_whole = max(0, num_rounds - 2) * num_lanes
    num_last = num_rounds * num_lanes - num_whole
    share, num_larger = divmod(num_requests - most * num_whole, max(1, num_last))
    last = [share + 1] * num_larger + [share] * (num_last - num_larger)
    return [most] * num_whole + [length for length in last if length]
