"""The runner: takes entries from the queue, has each drawn by a child, and writes how far it is.

Takes a queue and children. One large entry and a few small ones are drawn at a time; what they do
to each other is the desk's business. Several runners, each with an owner's name of its own, share
one queue. Knows no command line and no page.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from promptlab.errors import EXIT_INTERRUPTED, PromptlabError
from promptlab.serve.children import Child, Children, Event
from promptlab.serve.entries import Entry
from promptlab.serve.previews import Previews
from promptlab.serve.queue import Lease, Queue

log = logging.getLogger(__name__)

LEASE_S = 15.0  # an entry of a server that has died is drawn by another one after this
SMALL = 64  # images left to draw, at most, of an entry that does not wait for large ones
TICK_S = 0.25
MAX_ATTEMPTS = 3  # to draw an entry whose child is killed
CANCEL_S = 60.0  # a child that is interrupted ends by then, or it is killed
STOP_S = 20.0  # the same when the server stops


@dataclass(eq=False)
class Drawing:
    """An entry that is being drawn."""

    entry: Entry
    lease: Lease
    child: Child
    events: queue.SimpleQueue[Event]
    renewed_at: float
    num_left: int | None  # images to draw; None: not planned yet
    interrupted_at: float | None = None

    @property
    def is_small(self) -> bool:
        """Whether others need not wait for it."""
        return self.num_left is not None and self.num_left <= SMALL


class Runner:
    """Draws the entries of a queue until it is stopped."""

    def __init__(
        self,
        queue: Queue,
        children: Children,
        owner: str,
        num_small: int = 3,
        previews: Previews | None = None,
    ) -> None:
        self._queue, self._children, self._owner = queue, children, owner
        self._previews = Previews() if previews is None else previews
        self._num_small = num_small
        self._drawings: list[Drawing] = []
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="promptlab-runner", daemon=True)

    def start(self) -> None:
        """Begin to take entries."""
        self._thread.start()

    def stop(self) -> None:
        """Interrupt what is being drawn: it waits in the queue again, its images are kept."""
        self._is_stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopping.wait(TICK_S):
            self._try(self._step)
        self._end()

    def _try(self, step: Callable[[], None]) -> None:
        """Do something that is done again soon; a queue that is busy must not end the runner."""
        try:
            step()
        except Exception:
            log.exception("The runner failed and tries again.")

    def _step(self) -> None:
        """Look after what is being drawn, and take an entry if there is room."""
        self._look_after_all()
        num_small = sum(drawing.is_small for drawing in self._drawings)
        if num_small >= self._num_small:
            return
        has_large = num_small < len(self._drawings)
        claimed = self._queue.claim(self._owner, LEASE_S, SMALL if has_large else None)
        if claimed is not None:
            self._begin(*claimed)

    def _begin(self, lease: Lease, entry: Entry) -> None:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        try:
            child = self._children.start(
                entry.argv,
                events.put,
                name=str(entry.entry_id),
                run_folder=entry.run_folder,
                is_urgent=entry.is_urgent,
            )
        except (PromptlabError, OSError) as error:
            self._try_again(lease, f"No process could be started: {error}")
            return
        num_left = entry.num_images if entry.num_pending is None else entry.num_pending
        now = time.monotonic()
        self._drawings.append(Drawing(entry, lease, child, events, now, num_left))

    def _look_after_all(self) -> None:
        now = time.monotonic()
        for drawing in list(self._drawings):
            self._look_after(drawing, now)

    def _look_after(self, drawing: Drawing, now: float) -> None:
        """Take in a drawing's events, keep its lease, and see whether it is cancelled."""
        while not drawing.events.empty():
            self._take_in(drawing, drawing.events.get())
            if drawing not in self._drawings:
                return
        child = drawing.child
        if now - drawing.renewed_at >= LEASE_S / 3:
            drawing.renewed_at = now
            if self._queue.renew(drawing.lease, LEASE_S) is None:
                log.warning("Entry %d is drawn by another server now.", drawing.entry.entry_id)
                child.kill()
                self._leave(drawing)
                return
        entry = self._queue.get(drawing.entry.entry_id)
        if drawing.interrupted_at is None and entry is not None and entry.is_cancelling:
            drawing.interrupted_at = now
            child.interrupt()
        if drawing.interrupted_at is not None and now - drawing.interrupted_at > CANCEL_S:
            child.kill()

    def _take_in(self, drawing: Drawing, event: Event) -> None:
        lease = drawing.lease
        match event["event"]:
            case "planned":
                drawing.num_left = event["num_pending"]
                self._note(lease, event, "num_images", "num_pending", "run_folder", "rows")
            case "drawn":
                drawing.num_left = event["num_pending"] - event["num_drawn"]
                self._note(lease, event, "num_drawn", "num_failed", "num_pending")
            case "preview":
                self._previews.put(lease.entry_id, event["image_id"], event["step"], event["png"])
            case "ended":
                self._leave(drawing)
                self._finish(drawing, event["code"], event["error"])

    def _leave(self, drawing: Drawing) -> None:
        self._drawings.remove(drawing)
        self._previews.drop(drawing.entry.entry_id)

    def _note(self, lease: Lease, event: Event, *names: str) -> None:
        self._queue.note(lease, **{name: event[name] for name in names})

    def _finish(self, drawing: Drawing, code: int, error: str) -> None:
        """Write how an entry ended; one whose child was killed is drawn again."""
        lease = drawing.lease
        if code == 0:
            self._queue.finish(lease, "done")
        elif drawing.interrupted_at is not None:
            self._queue.finish(lease, "cancelled")
        elif self._is_stopping.is_set() and (code < 0 or code == EXIT_INTERRUPTED):
            self._queue.release(lease)
        elif code < 0:
            self._try_again(lease, error)
        elif code == EXIT_INTERRUPTED:
            self._queue.finish(lease, "cancelled", error)
        else:
            self._queue.finish(lease, "failed", error)

    def _try_again(self, lease: Lease, error: str) -> None:
        """Let an entry wait again that could not be drawn through no fault that it has shown."""
        if lease.attempt < MAX_ATTEMPTS:
            log.warning("Entry %d: %s It is drawn again.", lease.entry_id, error)
            self._queue.release(lease)
        else:
            self._queue.finish(lease, "failed", f"{error} So it was {lease.attempt} times.")

    def _end(self) -> None:
        """Interrupt all children and let their entries wait again."""
        for drawing in self._drawings:
            drawing.child.interrupt()
        give_up_at = time.monotonic() + STOP_S
        while self._drawings:
            if time.monotonic() > give_up_at:
                for drawing in self._drawings:
                    drawing.child.kill()
            self._try(self._look_after_all)
            time.sleep(TICK_S)
