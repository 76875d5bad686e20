"""Rooms: what the pages of one run share while people look at it.

Takes a folder of runs and the queue; returns rooms by a run's name. A room follows its run's rows
and picks as long as somebody watches, and tells all watchers at once. Names come from a listing of
the folder, never from a path. Knows no request and no page.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptlab.errors import PromptlabError
from promptlab.paths import RunPaths
from promptlab.report.page import script_json
from promptlab.report.served import ServedSheet
from promptlab.serve.said import Said
from promptlab.store import list_runs
from promptlab.store.storage import open_storage

if TYPE_CHECKING:
    from promptlab.serve.entries import Entry
    from promptlab.serve.queue import Queue

log = logging.getLogger(__name__)

POLL_S = 1.0  # between two looks at a run that somebody watches
RATE_S = 30.0  # images/s are those of so long
MAX_ROOMS = 12  # kept; those that nobody watches go first


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    num_drawn: int
    num_images: int
    images_s: float | None  # None: not known yet, or nothing is drawn now
    eta_s: float | None
    is_drawing: bool


class Room:
    """One run's sheet, its picks and its watchers; all methods but `look` belong to one loop."""

    def __init__(
        self, root: str, sheet: ServedSheet, queue: Queue, signature: object = None
    ) -> None:
        self.root = root
        self.sheet = sheet
        self.signature = signature  # of the run, as the sheet was built
        self.said = Said(root)
        self.progress = Progress(sheet.num_drawn, sheet.num_images, None, None, is_drawing=False)
        self.num_watchers = 0
        self.is_closed = False
        self.num_changes = 0
        self._changed = asyncio.Condition()
        self._queue = queue
        self._num_told = 0  # verdicts that the watchers were woken for
        self._samples: deque[tuple[float, int]] = deque()
        self._texts: dict[int, str] = {}
        self._follower: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- following

    async def watch(self) -> None:
        """Count a watcher in; the first one starts the following."""
        self.num_watchers += 1
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._follow())

    def leave(self) -> None:
        """Count a watcher out."""
        self.num_watchers -= 1

    async def wait(self, num_changes: int, timeout_s: float) -> bool:
        """Wait until there were more changes than so many; tell whether that came true in time."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.num_changes > num_changes)
        except TimeoutError:
            return False
        return True

    async def _follow(self) -> None:
        while self.num_watchers > 0:
            try:
                is_changed = await asyncio.to_thread(self.look)
            except (PromptlabError, OSError) as error:  # the next look may succeed
                log.warning("%s cannot be followed now: %s", self.root, error)
                is_changed = False
            if is_changed:
                await self._tell()
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """Let all streams end."""
        self.is_closed = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self.num_changes += 1
            self._changed.notify_all()

    def look(self) -> bool:
        """Read what is new of the run; tell whether there is something."""
        has_rows = self.sheet.read_news()
        self.said.read()
        before, self.progress = self.progress, self._measure(has_rows)
        num_told, self._num_told = self._num_told, len(self.said.history)
        return has_rows or self._num_told > num_told or self.progress != before

    def _measure(self, has_rows: bool) -> Progress:
        now, sheet = time.monotonic(), self.sheet
        if has_rows or not self._samples:
            self._samples.append((now, sheet.num_drawn))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_S:
            self._samples.popleft()
        (since, first), (last, _) = self._samples[0], self._samples[-1]
        is_drawing = self.entry() is not None
        images_s = None
        if (is_drawing or now - last < RATE_S / 2) and sheet.num_drawn > first:
            images_s = round((sheet.num_drawn - first) / max(last - since, 0.1), 2)
            is_drawing = sheet.num_drawn < sheet.num_images
        eta_s = None if not images_s else round((sheet.num_images - sheet.num_drawn) / images_s)
        return Progress(sheet.num_drawn, sheet.num_images, images_s, eta_s, is_drawing)

    def entry(self) -> Entry | None:
        """Return the entry of the queue that draws this run now, if there is one."""
        return entry_of(self._queue, self.root)

    def chunks_after(self, num_rows: int) -> list[tuple[int, str]]:
        """Return the chunks after the first added rows as JSON, each with the rows so far."""
        chunks = self.sheet.chunks_after(num_rows)
        for number, chunk in chunks:
            if number not in self._texts:
                self._texts[number] = script_json(chunk.document())
        return [(number, self._texts[number]) for number, _ in chunks]


class Rooms:
    """The rooms of one folder of runs."""

    def __init__(self, runs_dir: str, queue: Queue) -> None:
        self.runs_dir = runs_dir.rstrip("/")
        self.queue = queue
        self._rooms: dict[str, Room] = {}  # by name, in order of use
        self._opening: dict[str, asyncio.Lock] = {}

    def names(self) -> list[str]:
        """Return the names of all runs, the one written last first."""
        return [RunPaths(root).name for root in list_runs(self.runs_dir)]

    async def open(self, name: str, *, is_fresh: bool = False) -> Room | None:
        """Return the room of a run, None if there is no such run.

        A fresh one, for a page that is opened now, has all that the run has got since.
        """
        lock = self._opening.setdefault(name, asyncio.Lock())
        async with lock:
            room = self._rooms.pop(name, None)
            if room is None or (is_fresh and not room.num_watchers):
                room = await asyncio.to_thread(self._enter, name, room)
            if room is not None:
                self._rooms[name] = room
        if room is None:
            del self._opening[name]  # names that do not exist leave nothing behind
        self._tidy()
        return room

    def _enter(self, name: str, room: Room | None) -> Room | None:
        if name not in self.names():
            return None
        root = f"{self.runs_dir}/{name}"
        entry = entry_of(self.queue, root)
        rows = entry.rows if entry else None
        signature = _signature(root, rows)
        if room is None or room.signature != signature:
            room = Room(root, ServedSheet(root, _read_rows(rows)), self.queue, signature)
        room.look()
        return room

    async def close(self) -> None:
        """Let all streams end."""
        for room in self._rooms.values():
            await room.close()

    def _tidy(self) -> None:
        idle = [name for name, room in self._rooms.items() if not room.num_watchers]
        for name in idle[: max(0, len(self._rooms) - MAX_ROOMS)]:
            del self._rooms[name]


def entry_of(queue: Queue, root: str) -> Entry | None:
    """Return the entry that draws a run now, None if none does."""
    name = RunPaths(root).name
    for entry in queue.entries(limit=32):  # those being drawn come first
        folder = entry.run_folder if entry.status == "drawing" else None
        if folder and RunPaths(folder).name == name:
            return entry
    return None


def _signature(root: str, rows: str | None) -> object:
    """Return what changes whenever a sheet that is built anew would differ."""
    paths, storage = RunPaths(root), open_storage(root)
    parts = storage.list_sizes(paths.images_parquet)
    files = (paths.scores_parquet, paths.sweep_yaml)
    return sorted(parts.items()), [storage.modified_at(path) for path in files], rows


def _read_rows(path: str | None) -> list[dict[str, Any]]:
    """Return the plan's pending rows, none when their file is gone or cut short."""
    if path is None:
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        log.info("The plan's rows in %s cannot be read: %s", path, error)
        return []
