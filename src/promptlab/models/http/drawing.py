"""The requests of one block, many in flight, each answered once; and the end of a sweep.

Takes requests and who asks for one, yields results as they come. Ctrl-C cancels what is free and
waits for what is paid.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from promptlab.errors import BudgetSpentError, ModelLostError
from promptlab.models.batching import describe_error
from promptlab.models.http.asking import Asker
from promptlab.models.http.images import decode
from promptlab.models.http.service import CallError, RefusedError, StoppedError, size_in
from promptlab.records import Request, Result

CANCEL_S = 5.0  # that the end of a sweep waits for requests that cost nothing

log = logging.getLogger(__name__)


class Drawing:
    """The requests of one block, on as many threads as may be in flight."""

    def __init__(self, asker: Asker, requests: Sequence[Request]) -> None:
        self._asker, self._client = asker, asker.client
        self._left = deque(requests)
        self._in_flight: dict[str, Request] = {}
        self._found: queue.SimpleQueue[Result | ModelLostError | None] = queue.SimpleQueue()
        self._client.stop = threading.Event()
        number = min(self._client.server.concurrency, len(requests))
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
        started = time.monotonic()
        cost: float | None = None
        try:
            answer = self._asker.obtain(request)
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
        service, ledger = self._asker.service, self._asker.ledger
        under_way = [r for r in open_requests if ledger.find_sent(r.image_id) is not None]
        paid = [r for r in under_way if self._asker.price_of(r) is not None]
        for request in open_requests:
            sent = ledger.find_sent(request.image_id)
            if sent is not None:
                with contextlib.suppress(RefusedError, CallError, StoppedError, ModelLostError):
                    service.cancel(self._client, sent)
        if paid:
            log.warning(
                "Waiting for %d answers that are paid for; Ctrl-C again leaves them.", len(paid)
            )
        deadline = time.monotonic() + (self._client.server.read_s if paid else CANCEL_S)
        for thread in alive:
            thread.join(max(0.0, deadline - time.monotonic()))
