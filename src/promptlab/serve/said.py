"""What people say of one run: read as it changes, written for many at once.

Takes verdicts of pages, returns them with those of others since a version. A version is how many
verdicts were known; one of another server is unknown here. Knows no request.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from promptlab.paths import RunPaths
from promptlab.report.page import script_json
from promptlab.report.served import pick_document
from promptlab.store.storage import open_storage
from promptlab.verdicts.picks import Pick, read_picks, record_picks

GATHER_S = 0.1  # between two writes: verdicts that come meanwhile are one more


class Said:
    """The verdicts on one run; `record` belongs to one loop, the rest to any thread."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.history: list[Pick] = []  # in the order in which they came to be known
        self._token = secrets.token_hex(4)
        self._newest: dict[str, dict[str, Pick]] = {}  # image_id -> who -> verdict
        self._known: set[Pick] = set()
        self._taking = threading.Lock()
        self._stamp: float | None = None  # of picks.parquet, as it was read last
        self._event = ("", "", "")  # versions from and to, and the news between as JSON
        self._open: list[tuple[list[Pick], asyncio.Future[None]]] = []  # to be written
        self._writer: asyncio.Task[None] | None = None

    def read(self) -> None:
        """Read what anybody has written, if it has changed."""
        path = RunPaths(self.root).picks_parquet
        stamp = open_storage(path).modified_at(path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._take_in(read_picks(self.root))

    def _take_in(self, picks: Sequence[Pick]) -> None:
        with self._taking:
            news = [pick for pick in picks if pick not in self._known]
            self._known.update(news)
            for pick in news:
                by_person = self._newest.setdefault(pick.image_id, {})
                known = by_person.get(pick.who)
                if known is None or known.picked_at <= pick.picked_at:
                    by_person[pick.who] = pick
            self.history += news

    async def record(self, picks: Sequence[Pick]) -> None:
        """Write verdicts to the run; those of many people at once are one write."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.append((list(picks), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._open:
            batch, self._open = self._open, []
            error = None
            try:
                await asyncio.to_thread(self._record, [p for picks, _ in batch for p in picks])
            except Exception as raised:  # each of the people hears of it
                error = raised
            for _, done in batch:
                with suppress(asyncio.InvalidStateError):  # its request is gone
                    done.set_exception(error) if error else done.set_result(None)
            await asyncio.sleep(GATHER_S)

    def _record(self, picks: Sequence[Pick]) -> None:
        if picks:
            record_picks(self.root, picks)
            self._take_in(picks)

    def version(self) -> str:
        """Return how far the history is, for `news_since`."""
        return f"{self._token}.{len(self.history)}"

    def news_since(self, version: str, who: str | None) -> list[dict[str, Any]]:
        """Return the verdicts on the images that were judged since; of one person, or of all.

        To an unknown version everything is news.
        """
        token, _, number = version.partition(".")
        is_known = token == self._token and number.isdecimal() and len(number) < 12
        start = int(number) if is_known else 0
        with self._taking:
            image_ids = dict.fromkeys(pick.image_id for pick in self.history[start:])
            said = [list(self._newest[image_id].values()) for image_id in image_ids]
        mine = ([pick for pick in each if who is None or pick.who == who] for each in said)
        return [pick_document(each) for each in mine if each]

    def event_since(self, version: str) -> tuple[str, str]:
        """Return the news since a version as JSON, and the version they lead to.

        All watchers of one version share it.
        """
        now = self.version()
        if self._event[:2] != (version, now):
            text = script_json({"news": self.news_since(version, None), "version": now})
            self._event = version, now, text
        return self._event[2], now
