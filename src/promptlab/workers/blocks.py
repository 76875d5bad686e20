"""What is left to draw, and how much of it a worker gets at once. Nothing is split beforehand.

Takes requests by model, returns blocks that share a model and a group. Pure: knows no process, no
clock and no model's inside.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from promptlab.engine import cut_blocks
from promptlab.planning.plan import PlannedModel
from promptlab.records import Request
from promptlab.workers.messages import Preview

FIRST = 8  # images of a worker's first block, when nothing is known of the model's speed
BLOCK_S = (
    4.0  # what a block should take: a lost worker costs that much, a small job waits that long
)
MOST = 1024  # requests of a block
NUM_PIECES = 8  # of a block that ended a worker


@dataclass(frozen=True, eq=False)
class Work:
    """What one model has to draw."""

    planned: PlannedModel
    requests: Sequence[Request]
    prepare: Callable[[Request], Request] = lambda request: request  # when it is handed out
    most: int = MOST  # requests handed out at once
    on_preview: Callable[[Preview], None] | None = None  # wants unfinished images of workers


class Blocks:
    """The requests that no worker has, model by model and group by group.

    Whoever hands out work asks `take`: another source with this method and `num_left` may put an
    urgent job before the rest.
    """

    def __init__(self, works: Iterable[Work]) -> None:
        self._groups: deque[tuple[Work, deque[Request]]] = deque()
        self._pieces: deque[tuple[Work, tuple[Request, ...]]] = deque()  # of lost workers
        self._num_left: dict[Work, int] = {}
        for work in works:
            self._num_left[work] = len(work.requests)
            group_of = work.planned.model.group_of
            for group in cut_blocks(work.requests, max(1, len(work.requests)), group_of):
                self._groups.append((work, deque(group)))

    @property
    def num_left(self) -> int:
        """Number of requests that no worker has."""
        return sum(self._num_left.values())

    def take(
        self, choose: Callable[[Work, int, int | None], int]
    ) -> tuple[Work, tuple[Request, ...]] | None:
        """Return the next block, None if nothing is left.

        `choose` gets what it belongs to, how many requests that has left, and the images of a
        padded batch, if there is one; it returns the size.
        """
        if self._pieces:
            work, block = self._pieces.popleft()
        elif self._groups:
            work, group = self._groups[0]
            padded = padded_batch(work, group[0])
            wanted = choose(work, self._num_left[work], padded)
            size = max(1, min(wanted, work.most, len(group)))
            block = tuple(group.popleft() for _ in range(size))
            if not group:
                self._groups.popleft()
        else:
            return None
        self._num_left[work] -= len(block)
        return work, block

    def give_back(self, work: Work, requests: Sequence[Request], num_pieces: int) -> None:
        """Take back requests of a lost worker; they are handed out next, in pieces."""
        self._num_left[work] += len(requests)
        size = math.ceil(len(requests) / num_pieces)
        for start in range(0, len(requests), size):
            self._pieces.append((work, tuple(requests[start : start + size])))


def padded_batch(work: Work, request: Request) -> int | None:
    """Return the images of the padded batch that a request is drawn in, None without one."""
    own = request.params.get("padded_batch")
    return own if isinstance(own, int) else work.planned.numerics.padded_batch


class Sizes:
    """How large a worker's next block is, by what was seen of the workers' speeds."""

    def __init__(self) -> None:
        self._rates: dict[tuple[Work, str], float] = {}  # images/s of a worker
        self._batches: dict[Work, int] = {}  # images that the model was seen to draw together
        self._largest: dict[Work, int] = {}  # requests of a block that was drawn

    def note_batch(self, work: Work, batch_size: int) -> None:
        """Note how many images were drawn together."""
        self._batches[work] = max(batch_size, self._batches.get(work, 1))

    def note_block(self, work: Work, worker: str, num_images: int, seconds: float) -> None:
        """Note what a worker took for a block."""
        rate, key = num_images / max(seconds, 1e-6), (work, worker)
        self._rates[key] = (rate + self._rates.get(key, rate)) / 2
        self._largest[work] = max(num_images, self._largest.get(work, 1))

    def choose(
        self,
        work: Work,
        worker: str,
        workers: Sequence[str],
        num_left: int,
        padded: int | None = None,
    ) -> int:
        """Return the size of a worker's next block of so many requests.

        It takes about BLOCK_S, in whole batches, and leaves the others their share; near the end
        the rest is shared out by speed. A model that drew its largest block at once may want larger
        ones.
        """
        rates = {name: self._rates.get((work, name)) for name in workers}
        known = [rate for rate in rates.values() if rate is not None]
        mean = sum(known) / len(known) if known else 1.0
        mine = rates[worker]
        share = num_left * (mine or mean) / sum(rate or mean for rate in rates.values())
        batch, largest = padded or self._batches.get(work, 1), self._largest.get(work, 1)
        size = FIRST if mine is None else mine * BLOCK_S
        if padded is None and batch >= largest > 1:
            size = max(size, 2 * largest)
        size = min(size, share / 2 if len(rates) > 1 else share)  # one alone waits for nobody
        if size >= batch:
            return int(size / batch) * batch
        size = math.ceil(share / math.ceil(share / batch))
        return size if padded is None else math.ceil(size / padded) * padded
