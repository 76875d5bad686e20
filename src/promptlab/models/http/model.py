"""A model behind HTTP as promptlab sees it: many requests in flight, each answered once.

Takes requests and a service, yields results as they come. What is asked and how a reply is read is
the service's business; here are the threads, repetition, the journal and the end of a sweep.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from promptlab.errors import BudgetSpentError, ModelError, ModelLostError
from promptlab.identity import canonical_json
from promptlab.models.batching import describe_error
from promptlab.models.http.client import Client, Server
from promptlab.models.http.images import decode
from promptlab.models.http.ledger import Ledger
from promptlab.models.http.pace import Clock, Pace
from promptlab.models.http.repeat import backoff
from promptlab.models.http.service import (
    Answer,
    CallError,
    RefusedError,
    Sent,
    Service,
    StoppedError,
    size_in,
)
from promptlab.models.protocol import Parameter
from promptlab.records import Request, Result, Scalar

PAUSE_FACTOR = 5.0  # times the wait before a second try that a failing host pauses at first
MAX_TRIES = 5  # of a request that the server fails while it answers others
CANCEL_S = 5.0  # that the end of a sweep waits for requests that cost nothing

CLOCK = Clock()
_PACES: dict[tuple[object, ...], Pace] = {}  # what was learned of a host holds for its next model

log = logging.getLogger(__name__)


class HttpModel:
    """Satisfies promptlab.models.protocol.CompleteModel in all that matters for a service."""

    dtype = "unknown"
    device = "remote"

    def __init__(
        self,
        name: str,
        service: Service,
        server: Server,
        *,
        is_deterministic: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.name, self.service, self.server = name, service, server
        self.is_deterministic = is_deterministic and service.is_seeded
        self.ledger = Ledger()
        self._clock = clock or CLOCK
        self._client: Client | None = None
        self._chance = random.Random()
        self._dearer = 1.0  # times the estimate that the dearest answer cost

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what is asked for: 16 hex digits; nobody here can hash the weights."""
        return hashlib.sha256(canonical_json(dict(self.service.identity)).encode()).hexdigest()[:16]

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters that its service takes."""
        return self.service.parameters

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in px of its images, as far as known."""
        return self.service.image_size

    def size_of(self, params: Mapping[str, Scalar]) -> tuple[int, int]:
        """Return (width, height) in px of an image with these parameters, as far as known."""
        return size_in(params) or self.image_size

    def price_of(self, request: Request) -> float | None:
        """Return the price in US dollars, None for free, NaN where nobody knows it."""
        if self.server.price is not None:
            return self.server.price or None
        return self.service.price_of(request)

    def use_ledger(self, ledger: Ledger) -> None:
        """Spend from a sweep's budget, and note in its journal what is sent."""
        self.ledger = ledger

    @property
    def _pace(self) -> Pace:
        server, clock = self.server, self._clock
        key = (server.host, server.concurrency, server.per_minute, clock)
        if key not in _PACES:
            _PACES[key] = Pace(
                server.host,
                server.concurrency,
                server.per_minute,
                server.patience_s,
                PAUSE_FACTOR * server.first_wait_s,
                clock,
            )
        return _PACES[key]

    def load(self) -> None:
        """Open the connection; raises ModelError without the key."""
        if self._client is None:
            self._client = Client(self.server, self._clock)
            self._pace.begin()
            try:
                self.service.begin(self._client)
            except (RefusedError, CallError) as error:
                self.unload()
                raise ModelError(
                    f"{self.server.host} cannot be asked: {error}. Start the server, or name "
                    "another address in model.base_url."
                ) from None

    def unload(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, as they come.

        Raises ModelLostError when the server cannot draw any more, BudgetSpentError when the next
        image would pass the budget; what was in flight then is yielded first.
        """
        if self._client is None:
            raise ModelError(f"The model {self.name} is not loaded: call load() first.")
        self._say_what_may_be_paid_twice(requests)
        yield from _Drawing(self, self._client, requests).results()

    def _say_what_may_be_paid_twice(self, requests: Sequence[Request]) -> None:
        """Give up the answers of an earlier session that nobody can be asked for."""
        if self.service.can_find or self.service.is_idempotent:
            return
        sent = {r.image_id: self.ledger.find_sent(r.image_id) for r in requests}
        lost = {name: one for name, one in sent.items() if one is not None}
        for name in lost:
            self.ledger.lose(name)
        price = sum(one.price_usd or 0.0 for one in lost.values())
        if price:
            log.warning(
                "%s: %d requests were under way when this sweep was stopped, and %s cannot be "
                "asked for their answers. They are sent again: up to $%.4f may be paid twice, and "
                "count as spent.",
                *(self.name, len(lost), self.server.host, price),
            )

    def obtain(self, client: Client, request: Request) -> Answer:
        """Return the answer to one request, however often it has to be asked for.

        Raises RefusedError when it has no image, StoppedError when the sweep ends before that.
        """
        name, price = request.image_id, self.price_of(request)
        kept = self.ledger.find_kept(name)
        if kept is not None:
            return kept
        is_free, known = price is None, None if price is None or math.isnan(price) else price
        estimate = (known or 0.0) * self._dearer
        self.ledger.reserve(name, estimate, client.stop)
        try:
            answer = self._ask(client, request, known, is_free)
        except BaseException as error:
            is_refused = isinstance(error, RefusedError)
            if is_refused or self.ledger.find_sent(name) is None:
                self.ledger.end(name, error.cost_usd if isinstance(error, RefusedError) else None)
            raise
        is_told = self.server.price is None and answer.cost_usd is not None
        cost = answer.cost_usd if is_told else known
        if cost and estimate:
            self._dearer = max(self._dearer, self._dearer * cost / estimate)
        if is_free and not cost:
            self.ledger.end(name, None)  # to draw it again costs less than to keep it twice
        else:
            self.ledger.keep(name, answer, cost)
        return Answer(answer.body, cost, answer.format)

    def _ask(self, client: Client, request: Request, price: float | None, is_free: bool) -> Answer:
        name, pace, service = request.image_id, self._pace, self.service
        sent = self.ledger.find_sent(name)
        for num_tries in itertools.count(1):
            started = pace.enter(client.stop)
            try:
                answer = None
                if sent is not None and service.can_find:
                    answer = service.find(client, request, sent)
                if answer is None:
                    key = sent.key if sent is not None and service.is_idempotent else None
                    sent = self.ledger.send(name, price, key)
                    answer = service.draw(client, request, sent)
                pace.succeeded()
                return answer
            except RefusedError:
                pace.succeeded()
                raise
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                failure = CallError("lost", f"not what the API answers ({describe_error(error)})")
            except CallError as found:
                failure = found
            finally:
                pace.leave()
            if client.stop.is_set():
                raise StoppedError  # what is under way may still be found by the next session
            pace.failed(started, failure, name)
            sent = self._after(failure, name, sent, is_free)
            if num_tries >= MAX_TRIES and failure.kind != "busy" and not pace.is_paused:
                if sent is not None:
                    self.ledger.lose(name)
                raise RefusedError(f"no answer after {num_tries} tries: {failure}")
            if failure.wait_s is None:
                client.wait(backoff(num_tries, self.server.first_wait_s, self._chance))
        raise AssertionError("unreachable")

    def _after(
        self, failure: CallError, name: str, sent: Sent | None, is_free: bool
    ) -> Sent | None:
        """Return the request if its answer can still be had, None if it is to be sent anew.

        Raises RefusedError if the answer is lost and another one may be billed.
        """
        is_lost = failure.kind == "lost"
        if is_lost and (self.service.can_find or self.service.is_idempotent):
            return sent
        if is_lost and not is_free:
            self.ledger.lose(name)
            raise RefusedError(
                f"the answer was lost ({failure}): it may be billed. --retry-failed asks again"
            )
        self.ledger.take_back(name)
        return None


class _Drawing:
    """The requests of one block, on as many threads as may be in flight."""

    def __init__(self, model: HttpModel, client: Client, requests: Sequence[Request]) -> None:
        self._model, self._client = model, client
        self._left = deque(requests)
        self._in_flight: dict[str, Request] = {}
        self._found: queue.SimpleQueue[Result | ModelLostError | None] = queue.SimpleQueue()
        client.stop = threading.Event()
        number = min(model.server.concurrency, len(requests))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(number)]

    def results(self) -> Iterator[Result]:
        """Yield what the threads find; whoever ends it early leaves nothing running for free."""
        end: ModelLostError | None = None
        try:
            for thread in self._threads:
                thread.start()
            num_working = len(self._threads)
            while num_working:
                found = self._found.get()
                if found is None:
                    num_working -= 1
                elif isinstance(found, Result):
                    yield found
                else:
                    end = end or found
            if end is not None:
                raise end
        finally:
            open_requests = list(self._in_flight.values())
            self._client.stop.set()
            self._cancel(open_requests)

    def _work(self) -> None:
        try:
            while not self._client.stop.is_set():
                try:
                    request = self._left.popleft()
                except IndexError:
                    break
                self._in_flight[request.image_id] = request
                try:
                    self._found.put(self._draw_one(request))
                finally:
                    del self._in_flight[request.image_id]
        except StoppedError:
            pass
        except ModelLostError as error:
            self._left.clear()
            if not isinstance(error, BudgetSpentError):
                self._client.stop.set()  # nobody waits on for a server that is gone
            self._found.put(error)
        finally:
            self._found.put(None)

    def _draw_one(self, request: Request) -> Result:
        model, started = self._model, time.monotonic()
        cost: float | None = None
        try:
            answer = model.obtain(self._client, request)
            cost = answer.cost_usd
            pixels = decode(answer, size_in(request.params))
        except (StoppedError, ModelLostError):
            raise
        except RefusedError as refusal:
            cost = refusal.cost_usd if cost is None else cost
            return Result(request, error=str(refusal), cost_usd=cost)
        except Exception as error:
            return Result(request, error=describe_error(error), cost_usd=cost)
        number = max(1, len(self._in_flight))
        seconds = (time.monotonic() - started) / number
        return Result(request, pixels, seconds=seconds, batch_size=number, cost_usd=cost)

    def _cancel(self, open_requests: Sequence[Request]) -> None:
        """Cancel what is free, wait for what is paid; a second Ctrl-C leaves that too."""
        alive = [thread for thread in self._threads if thread.is_alive()]
        if not alive:
            return
        service, ledger = self._model.service, self._model.ledger
        paid = [r for r in open_requests if self._model.price_of(r) is not None]
        for request in open_requests:
            sent = ledger.find_sent(request.image_id)
            if sent is not None:
                with contextlib.suppress(RefusedError, CallError, StoppedError, ModelLostError):
                    service.cancel(self._client, sent)
        if paid:
            log.warning(
                "Waiting for %d answers that are paid for; Ctrl-C again leaves them.", len(paid)
            )
        deadline = time.monotonic() + (self._model.server.read_s if paid else CANCEL_S)
        for thread in alive:
            thread.join(max(0.0, deadline - time.monotonic()))
