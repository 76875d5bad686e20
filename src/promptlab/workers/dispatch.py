"""The dispatcher: whoever is free gets the next block, and what a lost worker had goes to others.

Takes hosts and blocks, delivers every image once, on the calling thread. Knows neither pipes nor
Ray. A request is a worker's from the moment it is handed out until its image has come; an image
that comes twice is dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from promptlab.errors import ModelError, ModelLostError, PlanOutdatedError
from promptlab.finishing import finish
from promptlab.records import Drawn, Request, Result
from promptlab.workers.blocks import NUM_PIECES, Blocks, Sizes, Work
from promptlab.workers.host import Hear, Host
from promptlab.workers.messages import (
    Block,
    Gone,
    Idle,
    Image,
    Line,
    Loaded,
    Message,
    ModelCall,
    Preview,
    Ready,
)
from promptlab.workers.options import WorkerOptions

log = logging.getLogger(__name__)

Deliver = Callable[[Drawn, str], None]  # an image and the name of its worker

MAX_HEARD = 64  # messages that wait: workers wait for a slow store
TICK_S = 0.5  # between two looks at the clock
STALL_S = 5.0  # a sweep that was away this long judges nobody by it
STOP_S = 10.0  # for workers to end by themselves


@dataclass(eq=False)
class Seat:
    """A worker as the dispatcher sees it."""

    host: Host
    life: int = 0  # number of its start
    open: dict[str, tuple[Work, Request]] = field(default_factory=dict)  # by image_id, as given
    is_up: bool = False
    is_free: bool = False
    is_given_up: bool = False
    num_starts_in_vain: int = 0  # in a row, without an image
    block: tuple[Work, int] | None = None  # that the model draws: whose and how many
    heard_at: float = 0.0
    answered_at: float = 0.0  # when it last had an image or got its first block


class Dispatcher:
    """Draws what `blocks` hold with the workers of `hosts`."""

    def __init__(
        self, hosts: Sequence[Host], blocks: Blocks, deliver: Deliver, options: WorkerOptions
    ) -> None:
        self.restarts: Counter[str] = Counter()  # by worker
        self._seats = [Seat(host) for host in hosts[: max(1, blocks.num_left)]]
        self._blocks, self._deliver, self._options = blocks, deliver, options
        self._sizes = Sizes()
        self._heard: queue.Queue[tuple[Seat, int, Message]] = queue.Queue(MAX_HEARD)
        self._is_over = False
        self._deaths: Counter[str] = Counter()  # of workers that had this image to draw
        self._has_drawn = False  # since the last loss of a device
        self._numerics: dict[str, str] = {}  # of a worker -> its name
        self._looked_at = time.monotonic()

    def run(self) -> None:
        """Deliver every image; raises ModelLostError when no worker is left."""
        try:
            log.info("Workers: %s.", ", ".join(seat.host.name for seat in self._seats))
            for seat in self._seats:
                self._start(seat)
            while self._blocks.num_left or any(seat.open for seat in self._seats):
                self._hand_out()
                self._step()
            self._end()
        finally:
            self._is_over = True
            for seat in self._seats:
                seat.host.kill()
            for seat in self._seats:
                seat.host.wait(STOP_S)

    def _start(self, seat: Seat) -> None:
        seat.life += 1
        seat.is_up, seat.is_free, seat.block = False, False, None
        seat.heard_at = seat.answered_at = time.monotonic()
        seat.host.start(self._ear(seat, seat.life))

    def _ear(self, seat: Seat, life: int) -> Hear:
        def hear(message: Message) -> None:
            while not self._is_over:
                with contextlib.suppress(queue.Full):
                    self._heard.put((seat, life, message), timeout=TICK_S)
                    return

        return hear

    def _hand_out(self) -> None:
        """Give each free worker a block."""
        for seat in self._seats:
            while seat.is_free:
                names = [s.host.name for s in self._seats if not s.is_given_up]
                taken = self._blocks.take(
                    lambda work, left, batch, seat=seat, names=names: self._sizes.choose(  # type: ignore[misc]
                        work, seat.host.name, names, left, batch
                    )
                )
                if taken is None:
                    return
                self._give(seat, *taken)

    def _give(self, seat: Seat, work: Work, requests: Sequence[Request]) -> None:
        planned, now = work.planned, time.monotonic()
        call = ModelCall(
            planned.node, planned.model.name, planned.model.fingerprint, planned.numerics
        )
        if not seat.open:
            seat.answered_at = now
        seat.open.update((request.image_id, (work, request)) for request in requests)
        seat.is_free, seat.block = False, (work, len(requests))
        prepared = tuple(map(work.prepare, requests))
        seat.host.send(Block(call, prepared, work.on_preview is not None))

    def _step(self) -> None:
        """Take in one message, or look at the clock."""
        try:
            seat, life, message = self._heard.get(timeout=TICK_S)
        except queue.Empty:
            pass
        else:
            if life == seat.life and not seat.is_given_up:
                seat.heard_at = time.monotonic()
                self._take_in(seat, message)
        now = time.monotonic()
        if now - self._looked_at >= TICK_S:
            self._look(now)

    def _take_in(self, seat: Seat, message: Message) -> None:
        name = seat.host.name
        match message:
            case Image():
                self._take_image(seat, message)
            case Preview():
                self._take_preview(seat, message)
            case Idle(seconds):
                if seat.block is not None:
                    work, size = seat.block
                    self._sizes.note_block(work, name, size, seconds)
                seat.is_free, seat.block = True, None
            case Loaded(numerics):
                self._compare(name, numerics)
            case Line(level, text):
                log.log(level, "%s: %s", name, text)
            case Gone():
                self._lose(seat, message)
            case Ready():
                seat.is_up = seat.is_free = True

    def _take_image(self, seat: Seat, image: Image) -> None:
        found = seat.open.pop(image.image_id, None)
        if found is None:
            return
        work, request = found
        seat.answered_at, seat.num_starts_in_vain = seat.heard_at, 0
        self._has_drawn = True
        self._sizes.note_batch(work, image.facts.batch_size)
        self._deliver(Drawn(request, image.facts, image.body), seat.host.name)

    def _take_preview(self, seat: Seat, preview: Preview) -> None:
        work, _ = seat.open.get(preview.image_id, (None, None))
        if work is not None and work.on_preview is not None:
            seat.answered_at = seat.heard_at
            work.on_preview(preview)

    def _compare(self, name: str, numerics: str) -> None:
        """Warn once of each kind of device whose bits may differ from the first one's."""
        if self._numerics and numerics not in self._numerics:
            first, other = next(iter(self._numerics.items()))
            log.warning(
                "%s and %s are different kinds of devices: their images may differ in the last "
                "bits. Each row names its own: %s; %s.",
                *(other, name, first or "unknown", numerics or "unknown"),
            )
        self._numerics.setdefault(numerics, name)

    def _look(self, now: float) -> None:
        """Give up workers that are silent, or draw nothing for too long."""
        is_fair = now - self._looked_at < STALL_S
        self._looked_at = now
        for seat in self._seats:
            if seat.is_given_up:
                continue
            if not is_fair:
                seat.heard_at = now
            elif seat.is_up and now - seat.heard_at > self._options.silent_s:
                self._lose(seat, Gone(f"silent for {self._options.silent_s:g} s"))
            elif seat.open and now - seat.answered_at > self._options.stuck_s:
                self._lose(seat, Gone(f"no image for {self._options.stuck_s:g} s"))

    def _lose(self, seat: Seat, gone: Gone) -> None:
        """Take back what a lost worker had, and start it again if that may help."""
        if gone.is_outdated:
            raise PlanOutdatedError(gone.reason)
        seat.host.kill()
        lost, seat.open = seat.open, {}
        seat.num_starts_in_vain += 1
        self._take_back(lost, seat.host.name, gone)
        seat.is_given_up = gone.is_final or (seat.num_starts_in_vain > self._options.max_restarts)
        fate = "It is given up" if seat.is_given_up else "It is started again"
        log.warning(
            "The worker %s is lost: %s. %s; its %d open images are drawn by whoever is free.",
            *(seat.host.name, gone.reason.rstrip("."), fate, len(lost)),
        )
        if not seat.is_given_up:
            self.restarts[seat.host.name] += 1
            self._start(seat)
        elif all(other.is_given_up for other in self._seats):
            error = ModelError if gone.is_final else ModelLostError
            raise error(f"no worker is left. {seat.host.name}: {gone.reason}")

    def _take_back(self, lost: dict[str, tuple[Work, Request]], worker: str, gone: Gone) -> None:
        """Let others draw what a lost worker had; what it had alone, twice, fails.

        Nobody knows which of its requests ended a worker, if any did. So they are drawn again in
        smaller blocks, and after a second loss one by one. Devices that are lost one after the
        other, without an image in between, are no request's doing.
        """
        is_blamed = self._has_drawn or not gone.is_device
        self._has_drawn = self._has_drawn and not gone.is_device
        by_work: dict[Work, list[Request]] = {}
        for image_id, (work, request) in lost.items():
            self._deaths[image_id] += is_blamed
            by_work.setdefault(work, []).append(request)
        for work, requests in by_work.items():
            num_deaths = max(self._deaths[request.image_id] for request in requests)
            if len(lost) > 1 or num_deaths < 2 or not is_blamed:
                num_pieces = NUM_PIECES if num_deaths < 2 else len(requests)
                self._blocks.give_back(work, requests, num_pieces)
                continue
            self._fail(work, requests[0], num_deaths, worker, gone.reason)

    def _fail(
        self, work: Work, request: Request, num_deaths: int, worker: str, reason: str
    ) -> None:
        error = (
            f"its worker was lost {num_deaths} times while it drew this image, the last time "
            f"alone: {reason}"
        )
        drawn = finish(Result(request, error=error), work.planned.numerics)
        facts = dataclasses.replace(drawn.facts, numerics="")
        self._deliver(Drawn(request, facts, None), worker)

    def _end(self) -> None:
        """Let all workers end by themselves."""
        for seat in self._seats:
            seat.host.send(None)
        end_at = time.monotonic() + STOP_S
        for seat in self._seats:
            seat.host.wait(max(0.0, end_at - time.monotonic()))
