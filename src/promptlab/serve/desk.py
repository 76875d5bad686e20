"""The desk: workers that stay while sweeps come and go, and whose turn it is at each.

Takes connections of sweeps (`promptlab.workers.resident`), gives each worker one sweep's block
after the other. One thread decides; further ones carry messages. Knows neither queue nor command
lines. A worker is started when it is first wanted, and its model stays loaded until a block wants
another one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from typing import Any

from promptlab.models.machine import ask_visible_gpus
from promptlab.serve.seats import Seat, Sweep, Worker, turn
from promptlab.workers.local import local_hosts
from promptlab.workers.messages import (
    Beat,
    Block,
    Gone,
    Idle,
    Image,
    Line,
    Loaded,
    Message,
    Preview,
    Ready,
)
from promptlab.workers.resident import DESK, DESK_KEY, Hello, Order

log = logging.getLogger(__name__)

TICK_S = 0.25
BEAT_S = 1.0  # between two signs of life to each seat
OFFER_S = 0.25  # a sweep that is asked for a block answers by then, or the next one is asked
SILENT_S = 60.0  # a worker without a heartbeat is killed
STALL_S = 5.0  # a desk that was away this long judges nobody by it
ABANDONED_S = 30.0  # a block whose sweep has gone may take so long, then its worker is killed
STOP_S = 5.0
BACKLOG = 64  # connections that wait at the door


class Desk:
    """The workers of this machine, shared by all sweeps that know the key.

    There are `num` of them; None: one a GPU.
    """

    def __init__(self, num: int | None = None) -> None:
        self._num = num
        self._key = secrets.token_bytes(32)
        self._folder = tempfile.mkdtemp(prefix="promptlab-desk-")  # of this user alone
        is_unix = hasattr(socket, "AF_UNIX")
        place: Any = f"{self._folder}/socket" if is_unix else ("127.0.0.1", 0)
        self._listener = Listener(place, "AF_UNIX" if is_unix else "AF_INET", BACKLOG, self._key)
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._workers: dict[str, Worker] = {}
        self._sweeps: dict[str, Sweep] = {}
        self._numbers = itertools.count()  # of arrivals
        self._is_known = threading.Event()  # the workers' names
        self._is_over = False
        self._threads = [
            threading.Thread(target=target, name=f"promptlab-{name}", daemon=True)
            for name, target in (("desk", self._run), ("desk-door", self._accept))
        ]

    @property
    def address(self) -> str:
        """Where it listens."""
        place = self._listener.address
        return place if isinstance(place, str) else f"{place[0]}:{place[1]}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What the environment of a sweep says of it."""
        return {DESK: self.address, DESK_KEY: self._key.hex()}

    def start(self) -> None:
        """Accept sweeps."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the workers and hang up."""
        if self._is_over:
            return
        self._is_over = True
        self._events.put(("stop",))
        self._knock()
        for thread in self._threads:
            thread.join(STOP_S)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # The door: connections come in, on threads of their own.

    def _knock(self) -> None:
        """Wake the accepting thread; waits for no answer, as that thread may have ended already."""
        place: Any = self._listener.address
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family) as knock:
            knock.settimeout(STOP_S)
            knock.connect(place)

    def _accept(self) -> None:
        while not self._is_over:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):
                continue
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        """Pass on what one seat hands in, until it leaves."""
        seat = None
        try:
            hello: Hello = connection.recv()
            if not hello.worker:
                self._is_known.wait()
                connection.send(tuple(self._workers))
                return
            number, now = next(self._numbers), time.monotonic()
            sweep = Sweep(hello.num_left, hello.is_urgent, number, now)
            seat = Seat(connection, sweep)
            seat.writer.start()
            self._events.put(("joined", hello, seat))
            while (order := connection.recv()) is not None:
                self._events.put(("order", hello, seat, order))
        except (OSError, EOFError):
            pass
        finally:
            if seat is not None:
                self._events.put(("left", hello, seat))
                seat.writer.join()
            connection.close()

    # The desk itself, on its own thread, which the workers live as long as.

    def _run(self) -> None:
        hosts = local_hosts(self._num, ask_visible_gpus())
        self._workers.update((host.name, Worker(host)) for host in hosts)
        self._is_known.set()
        looked_at = time.monotonic()
        while not self._is_over:
            with contextlib.suppress(queue.Empty):
                self._take_in(*self._events.get(timeout=TICK_S))
            now = time.monotonic()
            if now - looked_at >= BEAT_S:
                self._look(now, is_fair=now - looked_at < STALL_S)
                looked_at = now
            for worker in self._workers.values():
                self._serve(worker, now)
        for worker in self._workers.values():
            worker.host.kill()
            for seat in worker.seats:
                seat.close()
        for worker in self._workers.values():
            worker.host.wait(STOP_S)

    def _take_in(self, what: str, *values: Any) -> None:
        match what, *values:
            case "joined", Hello() as hello, Seat() as seat:
                seat.sweep = self._sweeps.setdefault(hello.client, seat.sweep)
                seat.sweep.num_left = hello.num_left
                self._workers[hello.worker].seats.append(seat)
            case "order", Hello() as hello, Seat() as seat, Order() as order:
                seat.order, seat.is_asked = order.block, False
                seat.sweep.num_left = order.num_left
            case "left", Hello() as hello, Seat() as seat:
                self._remove(hello, seat)
            case "heard", Worker() as worker, int() as life, message:
                if life == worker.life:
                    worker.heard_at = time.monotonic()
                    self._hear(worker, message)

    def _remove(self, hello: Hello, seat: Seat) -> None:
        """Let a seat go; a block of it that is being drawn is drawn to its end."""
        seat.close()
        worker = self._workers[hello.worker]
        worker.seats.remove(seat)
        if worker.holder is seat:
            worker.since = time.monotonic()
        if not any(seat.sweep is s.sweep for w in self._workers.values() for s in w.seats):
            self._sweeps.pop(hello.client, None)

    def _hear(self, worker: Worker, message: Message) -> None:
        match message:
            case Ready():
                worker.enter("free")
            case Idle(seconds):
                if worker.holder is not None:
                    worker.holder.seconds = seconds
                worker.enter("free")
            case Image(image_id):
                waiting = worker.owed[image_id]
                if waiting:
                    waiting.popleft().tell(message)
                if not waiting:
                    del worker.owed[image_id]
            case Preview(image_id):
                for seat in list(worker.owed.get(image_id, ()))[:1]:
                    seat.tell(message)
            case Loaded() | Line():
                if worker.holder is not None:
                    worker.holder.tell(message)
            case Gone():
                self._lose(worker, message)

    def _lose(self, worker: Worker, gone: Gone) -> None:
        """Tell all whom a lost worker owes something; they take new seats."""
        if worker.fault:
            gone = Gone(worker.fault)
        log.warning("The worker %s is lost: %s", worker.host.name, gone.reason)
        seats = {seat for waiting in worker.owed.values() for seat in waiting}
        if worker.holder is not None:
            seats.add(worker.holder)
        for seat in seats:
            seat.tell(gone)
            seat.close()
        worker.host.kill()
        worker.owed.clear()
        worker.life += 1
        worker.fault = ""
        worker.enter("down")

    def _serve(self, worker: Worker, now: float) -> None:
        """Give a free worker the next block, or ask for it."""
        holder = worker.holder
        if worker.state == "asking" and holder is not None:
            is_late = now - worker.since > OFFER_S
            if holder.is_open and holder.is_asked and not is_late:
                return
            worker.enter("free")
        if worker.state not in ("down", "free"):
            return
        seats = [seat for seat in worker.seats if seat.is_wanting]
        if not seats:
            return
        sweep = turn([seat.sweep for seat in seats], now)
        seat = next(seat for seat in seats if seat.sweep is sweep)
        if worker.state == "down":
            self._start(worker, seat)
        elif seat.order is not None:
            self._give(worker, seat, seat.order)
        else:
            seat.ask()
            worker.enter("asking", seat)

    def _start(self, worker: Worker, seat: Seat) -> None:
        worker.life += 1
        life = worker.life
        worker.heard_at = time.monotonic()
        worker.enter("starting", seat)
        try:
            worker.host.start(lambda message: self._events.put(("heard", worker, life, message)))
        except OSError as error:
            self._lose(worker, Gone(f"it cannot be started: {error}"))

    def _give(self, worker: Worker, seat: Seat, block: Block) -> None:
        seat.order = None
        seat.sweep.served_at = time.monotonic()
        for request in block.requests:
            worker.owed[request.image_id].append(seat)
        worker.enter("drawing", seat)
        worker.host.send(block)

    def _look(self, now: float, *, is_fair: bool) -> None:
        """Send signs of life, and kill workers that are silent or draw for nobody."""
        for worker in self._workers.values():
            for seat in worker.seats:
                seat.tell(Beat())
            if not is_fair:
                worker.heard_at = now
            elif worker.state in ("free", "asking", "drawing") and now - worker.heard_at > SILENT_S:
                worker.fault = f"silent for {SILENT_S:g} s"
            is_abandoned = worker.holder is not None and not worker.holder.is_open
            if worker.state == "drawing" and is_abandoned and now - worker.since > ABANDONED_S:
                worker.fault = "its sweep has ended"
            if worker.fault:
                worker.host.kill()
