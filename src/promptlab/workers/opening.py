"""Who draws, by the options: this process, or a team of workers behind one dispatcher.

Takes options, returns Workers: from outside all are the same. Below `promptlab serve`, the team of
kind auto is the server's own resident workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from promptlab.engine import BLOCK_SIZE, cut_blocks, draw, resident
from promptlab.finishing import finishing
from promptlab.models.machine import visible_gpus
from promptlab.records import Numerics
from promptlab.workers.blocks import MOST, Blocks, Work
from promptlab.workers.cluster import Cluster
from promptlab.workers.dispatch import Deliver, Dispatcher
from promptlab.workers.host import Host
from promptlab.workers.local import local_hosts, local_kinds
from promptlab.workers.options import WorkerOptions
from promptlab.workers.resident import DESK, resident_hosts

log = logging.getLogger(__name__)

THIS_PROCESS = "this process"

# Takes a model's config and whether it may be downloaded for that.
Describe = Callable[[Mapping[str, Any] | None, bool], Numerics]


class Workers(Protocol):
    """Who draws; made by `open_workers`."""

    restarts: Counter[str]  # by worker, of the last `draw`
    describe: Describe | None  # numerics of who will draw a model's config; None: of this process

    def kinds(self) -> Sequence[str]:
        """Return the kinds of devices that will draw, each once, as far as they are known."""

    def draw(self, works: Sequence[Work], deliver: Deliver) -> None:
        """Draw everything; `deliver` gets each image once, on one thread at a time.

        Raises ModelLostError when nobody can draw any more. However it ends, no worker is left.
        """


class ThisProcess:
    """One worker: the process itself."""

    describe: Describe | None = None

    def __init__(self) -> None:
        self.restarts: Counter[str] = Counter()

    def kinds(self) -> Sequence[str]:
        """Return nothing: the plan names this process's device."""
        return ()

    def draw(self, works: Sequence[Work], deliver: Deliver) -> None:
        """Draw everything here, one resident model after the other."""
        with finishing(lambda drawn: deliver(drawn, THIS_PROCESS)) as take:
            for work in works:
                planned = work.planned
                size = BLOCK_SIZE if work.most == MOST else work.most
                log.info("Loading %s.", planned.model.name)
                with resident(planned.model):
                    for block in cut_blocks(work.requests, size, planned.model.group_of):
                        requests = list(map(work.prepare, block))
                        with contextlib.closing(draw(planned.model, requests)) as results:
                            for result in results:
                                take(result, planned.numerics)


class Team:
    """Several workers, each a process of its own."""

    def __init__(
        self,
        options: WorkerOptions,
        find_hosts: Callable[[int], Sequence[Host]],
        find_kinds: Callable[[], Sequence[str]],
        describe: Describe | None = None,
    ) -> None:
        self.describe = describe
        self.kinds = find_kinds
        self.restarts: Counter[str] = Counter()
        self._options, self._find_hosts = options, find_hosts

    def draw(self, works: Sequence[Work], deliver: Deliver) -> None:
        """Draw everything with workers that are started for it."""
        if not works:
            return
        blocks = Blocks(works)
        hosts = self._find_hosts(blocks.num_left)
        dispatcher = Dispatcher(hosts, blocks, deliver, self._options)
        self.restarts = dispatcher.restarts
        dispatcher.run()


@contextlib.contextmanager
def open_workers(options: WorkerOptions = WorkerOptions()) -> Iterator[Workers]:  # noqa: B008
    """Return who draws; nothing is started before it is needed."""
    kind, num = options.kind, options.num
    if kind == "auto" and os.environ.get(DESK):
        yield Team(options, lambda num_images: resident_hosts(num_images, num), local_kinds)
        return
    if kind == "auto":
        kind = "local" if num or len(visible_gpus()) > 1 else "this"
    if kind == "local":
        yield Team(options, lambda num_images: local_hosts(num), local_kinds)
    elif kind == "ray":
        with contextlib.closing(Cluster(options)) as cluster:
            yield Team(options, lambda num_images: cluster.hosts(), cluster.kinds, cluster.describe)
    else:
        yield ThisProcess()
