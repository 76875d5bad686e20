"""Blocks drawn, or images detokenized, side by side, each by one thread.

Takes requests and one way to draw a block for each lane; yields one result a request, in order. In
a small model, threads that share a product spend more time on meeting at its end than on the
product. Threads with a block of their own each wait for nobody: they draw more, lose to a busy
neighbour no more than what it takes, and an image's bits do not depend on how many there are.
Knows nothing of what drawing a block means.
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
from typing import TypeVar

import torch

from promptlab.records import Request, Result

WIDEST = 512  # numbers in a state: wider models keep all threads busy with one product
MOST_LANES = 16  # Python's lock lets few more work at once
BLOCK_IMAGES = 32  # more do not draw faster


class Stopped(BaseException):
    """Nobody waits for a block's results any more; not an error that a block could survive."""


CheckWanted = Callable[[], None]  # raises Stopped
Lane = Callable[[Sequence[Request], CheckWanted], Sequence[Result]]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute in one thread in this thread, and in those that start meanwhile."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def draw_side_by_side(
    requests: Sequence[Request], most: int, lanes: Sequence[Lane]
) -> Iterator[Result]:
    """Yield one result a request, in order, drawn in blocks of at most so many.

    While the caller handles results the lanes draw on, up to two blocks each ahead of it. When it
    stops asking, the blocks that are being drawn are given up.
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
    """Return every item's answer, in order; a lane answers one at a time, in one thread."""
    if len(lanes) == 1:
        with one_thread():
            return [lanes[0](item) for item in items]
    idle: queue.LifoQueue[Callable[[Item], Answer]] = queue.LifoQueue()  # few lanes' memory
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
    """Return a pool of so many threads, in each of which torch computes in one."""
    return ThreadPoolExecutor(num_lanes, "lane", initializer=torch.set_num_threads, initargs=(1,))


def block_lengths(num_requests: int, most: int, num_lanes: int) -> list[int]:
    """Return the lengths of the blocks: as many for every lane, so that none is idle at the end.

    Whole ones first; the last two of every lane share the rest, as equal as can be.
    """
    num_rounds = -(-num_requests // (most * num_lanes))
    num_whole = max(0, num_rounds - 2) * num_lanes
    num_last = num_rounds * num_lanes - num_whole
    share, num_larger = divmod(num_requests - most * num_whole, max(1, num_last))
    last = [share + 1] * num_larger + [share] * (num_last - num_larger)
    return [most] * num_whole + [length for length in last if length]
