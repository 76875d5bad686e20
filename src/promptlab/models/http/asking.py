"""One request and its answer: the journal, repetition, and what is done when an answer is lost.

Takes a request, returns the image that a server sent for it or raises why there is none. Called by
many threads; knows no threads.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from promptlab.errors import ModelLostError
from promptlab.models.batching import describe_error
from promptlab.models.http.client import Client
from promptlab.models.http.ledger import Ledger
from promptlab.models.http.pace import Pace
from promptlab.models.http.repeat import backoff
from promptlab.models.http.service import (
    Answer,
    CallError,
    RefusedError,
    Sent,
    StoppedError,
)
from promptlab.models.protocol import Parameter
from promptlab.records import Request

MAX_TRIES = 5  # of a request that the server fails while it answers others


class Service(Protocol):
    """One API with one model behind it."""

    identity: Mapping[str, Any]  # what determines its images besides the request
    parameters: Mapping[str, Parameter]
    image_size: tuple[int, int]  # (width, height) in px where the parameters do not say
    is_seeded: bool  # False: a seed is the number of a draw
    can_find: bool  # whether an answer can be asked for after its connection was lost
    is_idempotent: bool  # whether the same key is drawn and billed once

    def price_of(self, request: Request) -> float | None:
        """Return the price in US dollars, None for free, UNKNOWN where nobody knows it."""

    def begin(self, client: Client) -> None:
        """Prepare the server, once, before the first request."""

    def draw(self, client: Client, request: Request, sent: Sent) -> Answer:
        """Ask for the image; raises RefusedError, CallError, StoppedError or ModelLostError."""

    def find(self, client: Client, request: Request, sent: Sent) -> Answer | None:
        """Return the answer of a request that was sent before, None if it never arrived."""

    def cancel(self, client: Client, sent: Sent) -> None:
        """Ask the server not to draw a request that nobody waits for."""


@dataclass
class Asker:
    """Asks one service for images and pays from one ledger."""

    service: Service
    client: Client
    pace: Pace
    ledger: Ledger
    price_of: Callable[[Request], float | None]
    _chance: random.Random = field(default_factory=random.Random)
    _dearer: float = 1.0  # times the estimate that the dearest answer cost

    def obtain(self, request: Request) -> Answer:
        """Return the answer to one request, however often it has to be asked for.

        Raises RefusedError when it has no image, StoppedError when the sweep ends before that.
        """
        name, price = request.image_id, self.price_of(request)
        kept = self.ledger.find_kept(name)
        if kept is not None:
            return kept
        is_free, known = price is None, None if price is None or math.isnan(price) else price
        estimate = (known or 0.0) * self._dearer
        self.ledger.reserve(name, estimate, self.client.stop)
        try:
            answer = self._ask(request, known, is_free)
        except BaseException as error:
            if isinstance(error, RefusedError) or self.ledger.find_sent(name) is None:
                self.ledger.end(name, error.cost_usd if isinstance(error, RefusedError) else None)
            elif not isinstance(error, StoppedError | ModelLostError):
                self.ledger.lose(name)
            raise
        is_told = self.client.server.price is None and answer.cost_usd is not None
        cost = answer.cost_usd if is_told else known
        if cost and known:
            self._dearer = max(self._dearer, cost / known)
        if is_free and not cost:
            self.ledger.end(name, None)  # to draw it again costs less than to keep it twice
        else:
            self.ledger.keep(name, answer, cost)
        return Answer(answer.body, cost, answer.format)

    def _ask(self, request: Request, price: float | None, is_free: bool) -> Answer:
        name, pace, service = request.image_id, self.pace, self.service
        sent = self.ledger.find_sent(name)
        for num_tries in itertools.count(1):
            started, is_sent_now = pace.enter(self.client.stop), False
            try:
                answer = None
                if sent is not None and service.can_find:
                    answer = service.find(self.client, request, sent)
                if answer is None:
                    key = sent.key if sent is not None and service.is_idempotent else None
                    sent, is_sent_now = self.ledger.send(name, price, key), True
                    answer = service.draw(self.client, request, sent)
                pace.succeeded()
                return answer
            except RefusedError:
                pace.succeeded()
                raise
            except ModelLostError:
                if sent is not None and is_sent_now and sent.remote_id is None:
                    self.ledger.take_back(name)  # it was answered: nobody draws it
                raise
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                failure = CallError("lost", f"not what the API answers ({describe_error(error)})")
            except CallError as found:
                failure = found
            finally:
                pace.leave()
            if failure.kind != "lost":
                self.ledger.take_back(name)
                sent = None
            if self.client.stop.is_set():
                raise StoppedError  # what is under way may still be found by the next session
            pace.failed(started, failure, name)
            if sent is not None:
                sent = self._after_loss(failure, name, sent, is_free)
            if num_tries >= MAX_TRIES and failure.kind != "busy" and not pace.is_paused:
                if sent is not None:
                    self.ledger.lose(name)
                raise RefusedError(f"no answer after {num_tries} tries: {failure}")
            if failure.wait_s is None:
                self.client.wait(backoff(num_tries, self.client.server.first_wait_s, self._chance))
        raise AssertionError("unreachable")

    def _after_loss(self, failure: CallError, name: str, sent: Sent, is_free: bool) -> Sent | None:
        """Return the request if its answer can still be had, None if it is to be sent anew.

        Raises RefusedError if another one may be billed.
        """
        if self.service.can_find or self.service.is_idempotent:
            return sent
        if is_free:
            self.ledger.take_back(name)
            return None
        self.ledger.lose(name)
        raise RefusedError(
            f"the answer was lost ({failure}): it may be billed. --retry-failed asks again"
        )
