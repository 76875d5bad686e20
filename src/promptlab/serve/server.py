"""What the routes of one server share.

Takes the queue, the rules of access and what plans and draws; tells routes when the queue changes.
Knows no route.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from promptlab.serve.access import Access
from promptlab.serve.entries import Entry
from promptlab.serve.previews import Previews
from promptlab.serve.queue import Queue, QueueFullError
from promptlab.serve.rooms import Rooms
from promptlab.serve.wishes import line_of

if TYPE_CHECKING:
    from promptlab.serve.children import Children, Planned

POLL_S = 0.4  # between looks at the queue, while somebody waits for a change
KEEPALIVE_S = 15.0  # a stream says something at least so often
MAX_PLANS = 12  # that are waited for


@dataclass
class Server:
    """What the routes share."""

    runs_dir: str
    queue: Queue
    children: Children
    access: Access
    previews: Previews = field(default_factory=Previews)
    is_closing: bool = False  # streams end
    rooms: Rooms = field(init=False)  # of the runs that are looked at
    _num_plans: int = 0
    _version: int = -1
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _poller: asyncio.Task[None] | None = None
    _num_listeners: int = 0

    def __post_init__(self) -> None:
        self.rooms = Rooms(self.runs_dir, self.queue)

    async def plan(self, argv: tuple[str, ...]) -> Planned:
        """Return the plan of a line that has been checked; raises what the plan says against it."""
        if self._num_plans >= MAX_PLANS:
            raise QueueFullError("Too many plans are being made. Try again in some seconds.")
        self._num_plans += 1
        try:
            return await run_in_threadpool(self.children.plan, argv)
        finally:
            self._num_plans -= 1

    async def submit(
        self,
        argv: tuple[str, ...],
        *,
        who: str,
        source: str,
        of: str = "",
        is_urgent: bool = False,
        request_id: str = "",
    ) -> Entry:
        """Plan a line that has been checked and queue it, unless the plan refuses it.

        The same `request_id` twice is one entry.
        """
        planned = await self.plan(argv)

        def add() -> Entry:
            return self.queue.add(
                argv,
                who=who,
                source=source,
                num_images=planned.num_images,
                of=of,
                is_urgent=is_urgent,
                request_id=request_id,
            )

        return await run_in_threadpool(add)

    async def changes(self, timeout_s: float = KEEPALIVE_S) -> AsyncGenerator[bool]:
        """Yield True at once and after each change of the queue, False after a time without one.

        Ends when the server does. However many listen, the queue is asked once.
        """
        seen: int | None = None
        self._num_listeners += 1
        try:
            if self._poller is None or self._poller.done():
                self._version = await run_in_threadpool(self.queue.version)
                self._poller = asyncio.create_task(self._poll())
            while not self.is_closing:
                if seen is not None and seen == self._version:
                    async with self._changed:
                        try:
                            async with asyncio.timeout(timeout_s):
                                await self._changed.wait()
                        except TimeoutError:
                            yield False
                            continue
                if seen != self._version:
                    seen = self._version
                    yield True
        finally:
            self._num_listeners -= 1

    async def _poll(self) -> None:
        while self._num_listeners and not self.is_closing:
            await asyncio.sleep(POLL_S)
            version = await run_in_threadpool(self.queue.version)
            if version != self._version or self.is_closing:
                async with self._changed:
                    self._version = version
                    self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """Let all streams end."""
        self.is_closing = True
        await self.rooms.close()
        async with self._changed:
            self._changed.notify_all()


def event(name: str, data: bytes) -> bytes:
    """Return a server-sent event; its data is JSON on one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def document_of(entry: Entry) -> dict[str, Any]:
    """Return what a client may know of an entry: no paths and no leases."""
    kept = (
        *("entry_id", "status", "who", "source", "num_images", "num_pending", "num_drawn"),
        *("num_failed", "error", "created_at", "started_at", "ended_at", "of", "is_cancelling"),
    )
    run = None if entry.run_folder is None else os.path.basename(entry.run_folder.rstrip("/"))
    document = {name: getattr(entry, name) for name in kept}
    return {**document, "line": line_of(entry.argv), "run": run}
