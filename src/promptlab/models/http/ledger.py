"""What a sweep spends: the budget, a journal of what was sent, and answers until they are stored.

A line is on disk before a paid request leaves, and the image that comes back is on disk before its
line says so. A process that was killed therefore knows afterwards what it spent, what it may have
spent, and which images it paid for. Knows no API and no store.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptlab import atomic
from promptlab.errors import BudgetSpentError
from promptlab.models.http.service import Answer, Sent, StoppedError

CENT = 1e-9  # US dollars that sums of prices may be wrong by


@dataclass
class Ledger:
    """The money of one sweep; without a folder it forgets everything when the process ends."""

    folder: Path | None = None  # made when the first request is sent
    budget_usd: float | None = None
    spent_usd: float = 0.0  # by all sessions of the sweep, what may have been billed included
    _held: dict[str, float] = field(default_factory=dict)  # for requests without an answer yet
    _sent: dict[str, Sent] = field(default_factory=dict)  # requests whose answer never came
    _costs: dict[str, float | None] = field(default_factory=dict)  # of answers kept on disk
    _active: set[str] = field(default_factory=set)  # requests of this session
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        """Read the journal of earlier sessions; expects the lock of the run to be held."""
        if self.folder is None or not self._journal.exists():
            return
        for line in self._journal.read_text(encoding="utf-8").splitlines():
            try:
                self._replay(json.loads(line))
            except (ValueError, KeyError):
                continue  # the line that the crash cut

    @property
    def _journal(self) -> Path:
        assert self.folder is not None
        return self.folder / "requests.jsonl"

    def _replay(self, entry: dict[str, Any]) -> None:
        name, event = entry["id"], entry["event"]
        if event == "sent":
            self._sent[name] = self._remember(name, entry["key"], entry["price"], entry["at"])
            self._held[name] = entry["price"] or 0.0
        elif event == "known as":
            self._sent[name].remote_id = entry["remote_id"]
        else:
            self._sent.pop(name, None)
            held = self._held.pop(name, 0.0)
            self.spent_usd += held if event == "lost" else entry.get("cost") or 0.0
            if event == "answered":
                self._costs[name] = entry.get("cost")

    def _remember(self, name: str, key: str, price: float | None, at_s: float) -> Sent:
        journal = lambda remote_id: self._write(name, "known as", remote_id=remote_id)  # noqa: E731
        return Sent(key, price, at_s, journal=journal)

    def _write(self, name: str, event: str, *, is_durable: bool = True, **facts: Any) -> None:
        if self.folder is None:
            return
        with self._changed:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._journal.open("a", encoding="utf-8") as file:
                # The line before may have been cut by a crash.
                file.write("\n" + json.dumps({"id": name, "event": event, **facts}))
                file.flush()
                if is_durable:
                    os.fsync(file.fileno())

    def reserve(self, name: str, price_usd: float, stop: threading.Event) -> None:
        """Hold the price of a request, once what is in flight leaves room for it in the budget.

        Raises BudgetSpentError when nothing in flight can leave room any more.
        """
        with self._changed:
            while name not in self._held and self._is_over(price_usd):
                if not self._active:
                    raise BudgetSpentError(
                        f"the budget of ${self.budget_usd:,.2f} would be passed: "
                        f"${self.spent_usd + sum(self._held.values()):,.4f} are spent, the next "
                        f"image costs about ${price_usd:,.4f}"
                    )
                if stop.is_set():
                    raise StoppedError
                self._changed.wait(0.2)
            self._held.setdefault(name, price_usd)
            self._active.add(name)

    def _is_over(self, price_usd: float) -> bool:
        committed = self.spent_usd + sum(self._held.values())
        return self.budget_usd is not None and committed + price_usd > self.budget_usd + CENT

    def find_sent(self, name: str) -> Sent | None:
        """Return a request that was sent and never answered."""
        return self._sent.get(name)

    def send(self, name: str, price_usd: float | None, key: str | None = None) -> Sent:
        """Note that a request leaves now."""
        sent = self._remember(name, key or str(uuid.uuid4()), price_usd, time.time())
        self._write(name, "sent", key=sent.key, price=price_usd, at=sent.at_s)
        self._sent[name] = sent
        return sent

    def take_back(self, name: str) -> None:
        """Note that a request was not taken; it may be sent again for the money it holds."""
        self._write(name, "not taken", is_durable=False)
        self._sent.pop(name, None)

    def keep(self, name: str, answer: Answer, cost_usd: float | None) -> None:
        """Note an answer, and keep its image until the store has it."""
        path = self._answer_path(name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_files({str(path): answer.body}, is_durable=True)
            self._costs[name] = cost_usd
        self._write(name, "answered", cost=cost_usd)
        self._release(name, cost_usd)

    def end(self, name: str, cost_usd: float | None) -> None:
        """Note that a request is over without an image to keep, and what it cost."""
        if name in self._sent:
            self._write(name, "ended", cost=cost_usd)
        self._release(name, cost_usd)

    def lose(self, name: str) -> None:
        """Note that the answer of a request is gone: its price may have been billed."""
        self._write(name, "lost")
        self._release(name, self._held.get(name, 0.0))

    def _release(self, name: str, cost_usd: float | None) -> None:
        with self._changed:
            self._sent.pop(name, None)
            self._held.pop(name, None)
            self._active.discard(name)
            self.spent_usd += cost_usd or 0.0
            self._changed.notify_all()

    def find_kept(self, name: str) -> Answer | None:
        """Return an answer that was paid for and never stored."""
        path = self._answer_path(name)
        if name not in self._costs or path is None or not path.exists():
            return None
        return Answer(path.read_bytes(), self._costs[name])

    def forget_stored(self, images: Iterable[Any]) -> None:
        """Delete the answers of images that are stored; a listener of the store."""
        for name in (image.row.image_id for image in images):
            if self._costs.pop(name, self) is not self and (path := self._answer_path(name)):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Keep no answers: every image of the sweep is stored."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "answers", ignore_errors=True)

    def _answer_path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / "answers" / name
