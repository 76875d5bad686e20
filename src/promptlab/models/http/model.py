"""A model behind HTTP as promptlab sees it: many requests in flight, each answered once.

Takes requests and a service, yields results as they come. What is asked and how a reply is read is
the service's business, `asking` sees to one request and `drawing` to all of a block.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from promptlab.errors import ModelError
from promptlab.identity import canonical_json
from promptlab.models.http.asking import Asker, Service
from promptlab.models.http.client import Client, Server
from promptlab.models.http.drawing import Drawing
from promptlab.models.http.ledger import Ledger
from promptlab.models.http.pace import Clock, Pace
from promptlab.models.http.service import (
    CallError,
    RefusedError,
    size_in,
)
from promptlab.models.protocol import Parameter
from promptlab.records import Request, Result, Scalar

PAUSE_FACTOR = 5.0  # times the wait before a second try that a failing host pauses at first

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
        asker = Asker(self.service, self._client, self._pace, self.ledger, self.price_of)
        yield from Drawing(asker, requests).results()

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
