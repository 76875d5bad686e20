"""The pace of one host: how many requests at once, how far apart, and when to pause.

Takes what became of each call, answers when the next one may go. Learns from refusals: each 429
halves what may be in flight and doubles the distance between requests; answers take that back
slowly. When the host fails request after request it pauses with a message instead of failing them
all, and after too long without an answer the model is lost. Knows no API.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from promptlab.errors import ModelLostError
from promptlab.models.http.service import CallError, StoppedError

MAX_ASKED_S = 900.0  # a host that asks to wait longer is a quota, not a rate
NUM_FAILURES = 3  # requests in a row that fail before the host pauses
MAX_PAUSE_S = 300.0
NUM_SENDS = 10  # last requests that tell how fast they were sent

log = logging.getLogger(__name__)


class Clock:
    """Time, and waiting that an end of the sweep cuts short."""

    def now(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait; raises StoppedError when the sweep ends meanwhile."""
        if stop.wait(max(0.0, seconds)):
            raise StoppedError


class Pace:
    """Shared by all models that ask one host."""

    def __init__(
        self,
        host: str,
        most: int,
        per_minute: float | None = None,
        patience_s: float = 1800.0,
        first_pause_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.host, self.most = host, most
        self.patience_s, self.first_pause_s = patience_s, first_pause_s
        self.clock = clock or Clock()
        self.allowed = float(most)  # requests in flight, as learned
        self._slowest = (
            60.0 / per_minute if per_minute else 0.0
        )  # s between requests, as configured
        self.interval = self._slowest  # s between requests, as learned
        self._in_flight = 0
        self._next_at = self._paused_until = self._learned_at = float("-inf")
        self._sends: deque[float] = deque(maxlen=NUM_SENDS)
        self._failing: dict[str, None] = {}  # requests that failed since the last answer
        self._num_down = 0
        self._unwell_since: float | None = None
        self._num_pauses = 0
        self._changed = threading.Condition()

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    @property
    def is_paused(self) -> bool:
        """Whether the host pauses because it fails request after request."""
        return self._num_pauses > 0

    def enter(self, stop: threading.Event) -> float:
        """Wait until the next request may go, and return the time."""
        while not stop.is_set():
            with self._changed:
                now = self.clock.now()
                wait_s = max(self._next_at, self._paused_until) - now
                if wait_s <= 0:
                    if self._in_flight < int(self.allowed):
                        self._in_flight += 1
                        self._next_at = now + self.interval
                        self._sends.append(now)
                        return now
                    self._changed.wait(0.2)
                    continue
            self.clock.wait(wait_s, stop)
        raise StoppedError

    def leave(self) -> None:
        """Note that a request is no longer in flight."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def succeeded(self) -> None:
        """Note an answer: the host is well, and may be asked a little faster."""
        with self._changed:
            if self.is_paused:
                log.info("%s answers again.", self.host)
            self._forgive()
            self.allowed = min(self.most, self.allowed + 1 / self.allowed)
            faster = 0.95 * self.interval
            self.interval = max(self._slowest, faster if faster > 0.01 else 0.0)

    def begin(self) -> None:
        """Forget the failures of an earlier model, not the pace that was learned."""
        with self._changed:
            self._forgive()

    def _forgive(self) -> None:
        self._failing.clear()
        self._num_down = self._num_pauses = 0
        self._unwell_since = None

    def failed(self, sent_at: float, failure: CallError, request_id: str) -> None:
        """Note a failure; raises ModelLostError when the host has not answered for too long."""
        with self._changed:
            now = self.clock.now()
            self._unwell_since = now if self._unwell_since is None else self._unwell_since
            if failure.wait_s is not None and failure.wait_s > MAX_ASKED_S:
                raise ModelLostError(
                    f"{self.host} asks to wait {failure.wait_s / 60:.0f} minutes ({failure})"
                )
            if now - self._unwell_since > self.patience_s:
                minutes = (now - self._unwell_since) / 60
                raise ModelLostError(
                    f"{self.host}: no answer for {minutes:.0f} minutes ({failure})"
                )
            if failure.wait_s is not None:
                self._paused_until = max(self._paused_until, now + failure.wait_s)
            if failure.kind == "busy":
                self._slow_down(sent_at, now)
                return
            self._failing[request_id] = None
            self._num_down += failure.is_unreachable
            if (
                max(self._num_down, len(self._failing)) >= NUM_FAILURES
                and now >= self._paused_until
            ):
                pause_s = min(MAX_PAUSE_S, self.first_pause_s * 2**self._num_pauses)
                self._num_pauses += 1
                self._paused_until = now + pause_s
                log.warning(
                    "%s fails request after request (%s): pausing for %.0f s. Ctrl-C ends the "
                    "sweep; what is drawn is kept.",
                    *(self.host, failure, pause_s),
                )

    def _slow_down(self, sent_at: float, now: float) -> None:
        """Learn from a 429, once for all requests that were in flight together."""
        if sent_at <= self._learned_at:
            return
        self._learned_at = now
        self.allowed = max(1.0, self.allowed / 2)
        gap = (self._sends[-1] - self._sends[0]) / max(1, len(self._sends) - 1)
        self.interval = max(2 * self.interval, gap)
