"""What the dispatcher asks of a place where workers run: a process here, an actor of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from promptlab.workers.messages import Block, Message

Hear = Callable[[Message], None]


class Host(Protocol):
    """One worker's place; the worker in it may be lost and started again."""

    name: str  # of the worker, for people: "gpu 0"

    def start(self, hear: Hear) -> None:
        """Start the worker; every message of it comes to `hear`, on another thread, Gone last."""

    def send(self, block: Block | None) -> None:
        """Give the worker a block, or None: it shall end; returns before it has arrived."""

    def kill(self) -> None:
        """End the worker now, whatever it is doing."""

    def wait(self, seconds: float) -> None:
        """Wait for a worker that shall end; one that does not is killed."""
