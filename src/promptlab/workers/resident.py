"""Seats at resident workers: a server keeps workers and their models, its sweeps share them.

Takes how many images a sweep has to draw, returns hosts as `local_hosts` does. A seat is asked for
a block (Ready, later Idle) when it is its turn; that is all that it notices of other sweeps. The
other end is `promptlab.serve.desk`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection

from promptlab.errors import ModelLostError
from promptlab.workers.host import Hear
from promptlab.workers.messages import Block, Gone, Image

DESK = "PROMPTLAB_DESK"  # environment: where the desk listens, a path or 127.0.0.1:PORT
DESK_KEY = "PROMPTLAB_DESK_KEY"  # its key, in hex
DESK_URGENT = "PROMPTLAB_DESK_URGENT"  # "1": this sweep goes before all others

_NO_ANSWER = (OSError, EOFError, AuthenticationError)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a connection: whose it is, and at which worker it wants a seat."""

    client: str  # the same for all seats of one sweep
    worker: str  # "": it asks for the workers' names
    num_left: int  # images that the sweep has yet to hand out
    is_urgent: bool


@dataclass(frozen=True, slots=True)
class Order:
    """A block, and how many images the sweep has left after it."""

    block: Block
    num_left: int


@dataclass
class Share:
    """What the seats of one sweep have in common."""

    num_left: int
    client: str = field(default_factory=lambda: uuid.uuid4().hex)

    def hello(self, worker: str) -> Hello:
        """Return what a seat opens with."""
        is_urgent = os.environ.get(DESK_URGENT) == "1"
        return Hello(self.client, worker, self.num_left, is_urgent)


def connect(hello: Hello) -> Connection:
    """Return a connection to the desk that the environment names; raises what _NO_ANSWER lists."""
    address = os.environ[DESK]
    host, _, port = address.rpartition(":")
    place = (host, int(port)) if host and port.isdigit() else address
    connection = Client(place, authkey=bytes.fromhex(os.environ[DESK_KEY]))
    connection.send(hello)
    return connection


def resident_hosts(num_images: int, num: int | None = None) -> Sequence[ResidentHost]:
    """Return a seat at each of the server's workers, or at the first `num`."""
    share = Share(num_images)
    try:
        with connect(share.hello("")) as connection:
            names: Sequence[str] = connection.recv()
    except _NO_ANSWER as error:
        raise ModelLostError(f"the server's workers cannot be reached: {error}") from error
    return [ResidentHost(name, share) for name in names[:num]]


class ResidentHost:
    """A seat at one worker: it ends with the sweep, the worker does not."""

    def __init__(self, name: str, share: Share) -> None:
        self.name = name
        self._share = share
        self._life = 0  # number of the seat that is held or was left last
        self._connection: Connection | None = None
        self._listener: threading.Thread | None = None
        self._open: set[str] = set()  # image_ids that were handed out
        self._lock = threading.Lock()

    def start(self, hear: Hear) -> None:
        """Take a seat; what the worker says of this sweep's blocks comes to `hear`, Gone last."""
        with self._lock:
            self._life += 1
            self._open = set()
            self._listener = threading.Thread(
                target=self._listen, args=(self._life, self._open, hear), daemon=True
            )
        self._listener.start()

    def _listen(self, life: int, opened: set[str], hear: Hear) -> None:
        try:
            connection = connect(self._share.hello(self.name))
        except _NO_ANSWER as error:
            hear(Gone(f"the server's workers cannot be reached: {error}", is_final=True))
            return
        with self._lock:
            is_left = life != self._life  # meanwhile
            self._connection = None if is_left else connection
        with contextlib.suppress(EOFError, OSError):
            while not is_left:
                message = connection.recv()
                if isinstance(message, Image):
                    opened.discard(message.image_id)
                elif isinstance(message, Gone):
                    self._share.num_left += len(opened)  # they are handed out again
                hear(message)
        with self._lock:
            connection.close()
            if self._connection is connection:
                self._connection = None
        hear(Gone("the server has closed this seat"))

    def send(self, block: Block | None) -> None:
        """Give the worker a block, or None: the sweep has no more."""
        if block is None:
            self.kill()
            return
        self._share.num_left = max(0, self._share.num_left - len(block.requests))
        self._open.update(request.image_id for request in block.requests)
        with self._lock:
            self._tell(Order(block, self._share.num_left))

    def kill(self) -> None:
        """Leave the seat; the desk then closes its connection."""
        with self._lock:
            self._life += 1
            self._tell(None)
            self._connection = None

    def _tell(self, order: Order | None) -> None:
        with contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.send(order)

    def wait(self, seconds: float) -> None:
        """Wait until the seat is left."""
        self.kill()
        if self._listener is not None:
            self._listener.join(seconds)
