"""The queue: what waits to be drawn, in one SQLite table that processes share.

Takes command lines of `promptlab sweep`, returns entries and leases. A claim is one UPDATE that
moves a deadline, so a killed server loses no entry, and servers on one queue share the work. Knows
neither who draws nor what a command line says; the clock is passed in.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.serve.entries import COLUMNS, ENDED, Entry, entry_from_row, open_table

MAX_WAITING = 1000
MAX_LOST = 5  # an entry whose server died so many times is not drawn again
QUEUE_PATH = ".serve/queue.sqlite"  # in the folder of the runs
_ORDER = "is_urgent DESC, position"
_NOTED = frozenset({"num_images", "num_pending", "num_drawn", "num_failed", "run_folder", "rows"})
_BACK = "CASE WHEN is_cancelling THEN 'cancelled' ELSE 'waiting' END"


class QueueFullError(PromptlabError):
    """As many entries wait as the queue takes."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to draw an entry; void once another attempt has begun."""

    entry_id: int
    attempt: int


class Queue:
    """The entries of one folder of runs; threads and processes may use it at once."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._database = open_table(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the file for statements that belong together."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement, which may write, and return its rows."""
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def add(
        self,
        argv: tuple[str, ...] | list[str],
        *,
        who: str = "",
        source: str = "shell",
        num_images: int | None = None,
        of: str = "",
        is_urgent: bool = False,
        request_id: str = "",
    ) -> Entry:
        """Let a command line wait behind the others of its urgency; raises QueueFullError.

        A client that does not know whether it was heard asks again with the same `request_id` and
        gets the entry that exists.
        """
        with self._writing() as database:
            found = database.execute(
                f"SELECT {COLUMNS} FROM entries WHERE request_id = ?", (request_id or None,)
            ).fetchone()
            if found is not None:
                return entry_from_row(found)
            (num_waiting,) = database.execute(
                "SELECT count(*) FROM entries WHERE status = 'waiting'"
            ).fetchone()
            if num_waiting >= MAX_WAITING:
                raise QueueFullError(
                    f"The queue is full: {num_waiting:,} entries wait. Wait until some are drawn, "
                    "or cancel some."
                )
            row = database.execute(
                "INSERT INTO entries (argv, who, source, position, num_images, created_at, of, "
                "is_urgent, request_id) VALUES (?, ?, ?, "
                "(SELECT coalesce(max(position), 0) + 1 FROM entries), ?, ?, ?, ?, ?) "
                f"RETURNING {COLUMNS}",
                (
                    json.dumps(list(argv)),
                    who,
                    source,
                    num_images,
                    self._clock(),
                    of,
                    is_urgent,
                    request_id or None,
                ),
            ).fetchone()
        return entry_from_row(row)

    def get(self, entry_id: int) -> Entry | None:
        """Return an entry, None if there is none."""
        rows = self._execute(f"SELECT {COLUMNS} FROM entries WHERE entry_id = ?", entry_id)
        return entry_from_row(rows[0]) if rows else None

    def entries(self, limit: int = 200) -> list[Entry]:
        """Return entries: those being drawn, those that wait in order, then the newest ended."""
        rows = self._execute(
            f"SELECT {COLUMNS} FROM entries ORDER BY "
            "CASE status WHEN 'drawing' THEN 0 WHEN 'waiting' THEN 1 ELSE 2 END, "
            f"ended_at DESC, {_ORDER}, entry_id LIMIT ?",
            limit,
        )
        return [entry_from_row(row) for row in rows]

    def version(self) -> int:
        """Return a number that grows with every change by any process, but not with renewals."""
        return int(self._execute("SELECT num FROM changes")[0][0])

    def claim(
        self, owner: str, lease_s: float, max_images: int | None = None
    ) -> tuple[Lease, Entry] | None:
        """Take the next entry: one that waits, or one whose lease has run out.

        With `max_images` only one with no more images left to draw; an entry without a plan counts
        as larger.
        """
        now = self._clock()
        with self._writing() as database:
            database.execute(
                "UPDATE entries SET ended_at = ?1, is_cancelling = 0, lease_until = NULL, "
                "status = CASE WHEN is_cancelling THEN 'cancelled' ELSE 'failed' END, "
                "error = CASE WHEN is_cancelling THEN '' ELSE ?2 END "
                "WHERE status = 'drawing' AND lease_until < ?1 "
                "AND (is_cancelling OR num_lost >= ?3)",
                (now, f"The server died {MAX_LOST} times while it drew this entry.", MAX_LOST),
            )
            row = database.execute(
                "UPDATE entries SET status = 'drawing', owner = ?1, lease_until = ?2, "
                "attempt = attempt + 1, num_lost = num_lost + (status = 'drawing'), "
                "started_at = coalesce(started_at, ?3), num_drawn = 0, num_failed = 0 "
                "WHERE entry_id = (SELECT entry_id FROM entries "
                "WHERE (status = 'waiting' OR (status = 'drawing' AND lease_until < ?3)) "
                "AND (?4 IS NULL OR coalesce(num_pending, num_images) <= ?4) "
                f"ORDER BY {_ORDER} LIMIT 1) RETURNING {COLUMNS}",
                (owner, now + lease_s, now, max_images),
            ).fetchone()
        if row is None:
            return None
        entry = entry_from_row(row)
        return Lease(entry.entry_id, entry.attempt), entry

    def renew(self, lease: Lease, lease_s: float) -> Entry | None:
        """Keep an entry for longer and return it as it is; None: it is another's now."""
        rows = self._change(lease, "lease_until = ?", self._clock() + lease_s)
        return entry_from_row(rows[0]) if rows else None

    def note(self, lease: Lease, **progress: int | str | None) -> bool:
        """Write how far an entry is: counts, run folder, the file of its rows."""
        unknown = progress.keys() - _NOTED
        assert not unknown, f"no progress: {unknown}"
        columns = ", ".join(f"{name} = ?" for name in progress)
        return bool(self._change(lease, columns, *progress.values()))

    def finish(self, lease: Lease, status: str, error: str = "") -> bool:
        """End an entry as done, failed or cancelled; False: it is another's now."""
        assert status in ENDED, status
        return bool(
            self._change(
                lease,
                "status = ?, error = ?, ended_at = ?, lease_until = NULL, is_cancelling = 0",
                status,
                error,
                self._clock(),
            )
        )

    def release(self, lease: Lease) -> bool:
        """Let an entry wait again in its old place; one that is being cancelled ends."""
        return bool(
            self._change(
                lease,
                f"status = {_BACK}, ended_at = CASE WHEN is_cancelling THEN ? END, "
                "owner = '', lease_until = NULL, is_cancelling = 0",
                self._clock(),
            )
        )

    def _change(self, lease: Lease, columns: str, *values: Any) -> list[tuple[Any, ...]]:
        """Change the entry of a lease that still holds."""
        return self._execute(
            f"UPDATE entries SET {columns} WHERE entry_id = ? AND attempt = ? "
            f"AND status = 'drawing' RETURNING {COLUMNS}",
            *values,
            lease.entry_id,
            lease.attempt,
        )

    def cancel(self, entry_id: int) -> bool:
        """Cancel an entry that waits, or ask who draws it to stop; False: it has ended."""
        return bool(
            self._execute(
                "UPDATE entries SET is_cancelling = (status = 'drawing'), "
                "ended_at = CASE status WHEN 'waiting' THEN ? END, "
                "status = CASE status WHEN 'waiting' THEN 'cancelled' ELSE status END "
                "WHERE entry_id = ? AND status IN ('waiting', 'drawing') RETURNING entry_id",
                self._clock(),
                entry_id,
            )
        )

    def move(self, entry_id: int, before: int | None) -> bool:
        """Move a waiting entry before another of its urgency, or behind all with None."""
        with self._writing() as database:
            rows = database.execute(
                "SELECT entry_id, position FROM entries WHERE status = 'waiting' AND is_urgent = "
                "(SELECT is_urgent FROM entries WHERE entry_id = ?) ORDER BY position",
                (entry_id,),
            ).fetchall()
            order = [row[0] for row in rows]
            if entry_id not in order or (before is not None and before not in order):
                return False
            if entry_id == before:
                return True
            order.remove(entry_id)
            order.insert(len(order) if before is None else order.index(before), entry_id)
            # The same positions in another order: nothing outside of this list moves.
            database.executemany(
                "UPDATE entries SET position = ? WHERE entry_id = ? AND position != ?1",
                [(position, moved) for moved, (_, position) in zip(order, rows, strict=True)],
            )
        return True
