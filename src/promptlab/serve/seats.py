"""Sweeps, seats and workers as the desk sees them, and whose turn it is.

A seat sends its messages on a thread of its own; everything else here is records. Decides nothing
but the turn.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from promptlab.workers.local import LocalHost
from promptlab.workers.messages import Block, Idle, Message, Ready

PATIENCE_S = 300.0  # a sweep that has waited this long for a block goes before all others


@dataclass(eq=False)
class Sweep:
    """A client of the desk: the seats of one sweep."""

    num_left: int  # images that it has yet to hand out
    is_urgent: bool
    number: int  # of its arrival
    served_at: float  # when it had its last block, or arrived


def turn(sweeps: Sequence[Sweep], now: float) -> Sweep:
    """Return whose turn it is: urgent ones first, then the one with the fewest images left.

    So a small sweep never waits for a large one. None waits for ever: after PATIENCE_S without a
    block it gets one before all others.
    """

    def rank(sweep: Sweep) -> tuple[bool, bool, int, int]:
        is_patient = now - sweep.served_at < PATIENCE_S
        return is_patient, not sweep.is_urgent, sweep.num_left, sweep.number

    return min(sweeps, key=rank)


@dataclass(eq=False)
class Seat:
    """A sweep's place at one worker."""

    connection: Connection
    sweep: Sweep
    outbox: queue.SimpleQueue[Message | None] = field(default_factory=queue.SimpleQueue)
    order: Block | None = None  # handed in, not given to the worker yet
    is_asked: bool = False  # it may hand in a block
    is_greeted: bool = False
    is_open: bool = True
    seconds: float = 0.0  # that its last block took

    def __post_init__(self) -> None:
        self.writer = threading.Thread(target=_write, args=(self,), daemon=True)

    @property
    def is_wanting(self) -> bool:
        """Whether it has a block, or will have one when it is asked."""
        has_more = self.sweep.num_left > 0 and not self.is_asked
        return self.is_open and (self.order is not None or has_more)

    def ask(self) -> None:
        """Ask for a block."""
        self.outbox.put(Idle(self.seconds) if self.is_greeted else Ready())
        self.is_asked = self.is_greeted = True

    def tell(self, message: Message) -> None:
        """Send a message, unless the seat is left."""
        if self.is_open:
            self.outbox.put(message)

    def close(self) -> None:
        """Send what is on its way, then hang up."""
        self.is_open = False
        self.outbox.put(None)


@dataclass(eq=False)
class Worker:
    """A resident worker as the desk sees it."""

    host: LocalHost
    state: str = "down"  # down, starting, free, asking or drawing
    life: int = 0  # number of its start
    holder: Seat | None = None  # for whom it starts, whom it asks, whose block it draws
    since: float = 0.0  # the state, or a holder that has gone
    heard_at: float = 0.0
    fault: str = ""  # why the desk has killed it
    seats: list[Seat] = field(default_factory=list)
    owed: defaultdict[str, deque[Seat]] = field(default_factory=lambda: defaultdict(deque))
    #   image_id -> who waits for it, in the order of their blocks

    def enter(self, state: str, holder: Seat | None = None) -> None:
        """Change the state."""
        self.state, self.holder, self.since = state, holder, time.monotonic()


def _write(seat: Seat) -> None:
    """Send a seat's messages, on a thread of its own: a slow sweep must not stop the others.

    Afterwards it hangs up; the thread that listens closes, for the descriptor may be taken anew.
    """
    with contextlib.suppress(OSError):
        while (message := seat.outbox.get()) is not None:
            seat.connection.send(message)
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(seat.connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
