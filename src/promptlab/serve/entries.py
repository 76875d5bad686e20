"""Entries: one command line in the queue and how far it is, as a record and as a row of a table.

Takes the path of a SQLite file, returns it open with its table; turns rows into records. Knows
neither whose turn it is nor what a command line says.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError

STATUSES = ("waiting", "drawing", "done", "failed", "cancelled")
ENDED = STATUSES[2:]
BUSY_S = 10.0  # another process writes meanwhile
VERSION = 1  # of the table

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    argv TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting',
    who TEXT NOT NULL,
    source TEXT NOT NULL,
    position REAL NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    lease_until REAL,
    owner TEXT NOT NULL DEFAULT '',
    is_cancelling INTEGER NOT NULL DEFAULT 0,
    num_images INTEGER,
    num_pending INTEGER,
    num_drawn INTEGER NOT NULL DEFAULT 0,
    num_failed INTEGER NOT NULL DEFAULT 0,
    run_folder TEXT,
    rows TEXT,
    error TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    of TEXT NOT NULL,
    is_urgent INTEGER NOT NULL,
    num_lost INTEGER NOT NULL DEFAULT 0,
    request_id TEXT UNIQUE
);
CREATE INDEX IF NOT EXISTS entries_of_status ON entries (status, is_urgent, position);
CREATE TABLE IF NOT EXISTS changes (num INTEGER NOT NULL);
INSERT INTO changes SELECT 0 WHERE NOT EXISTS (SELECT * FROM changes);
CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entries
    BEGIN UPDATE changes SET num = num + 1; END;
CREATE TRIGGER IF NOT EXISTS entry_changed AFTER UPDATE OF
    status, position, is_cancelling, num_images, num_pending, num_drawn, num_failed, run_folder,
    rows, error
    ON entries BEGIN UPDATE changes SET num = num + 1; END;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command line in the queue, and how far it is."""

    entry_id: int
    argv: tuple[str, ...]  # of `promptlab sweep`, without these two words
    status: str  # of STATUSES
    who: str
    source: str  # page, shell, api or sheet
    position: float  # among those that wait
    attempt: int  # how many times it was claimed
    lease_until: float | None
    owner: str  # the server that draws it
    is_cancelling: bool
    num_images: int | None  # None: not planned yet
    num_pending: int | None  # of num_images, those that no run has drawn yet
    num_drawn: int
    num_failed: int
    run_folder: str | None
    rows: str | None  # path of a file with the plan's pending rows
    error: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    of: str  # image_id that it descends from, "": none
    is_urgent: bool  # someone waits for its answer


COLUMNS = ", ".join(field.name for field in fields(Entry))


def open_table(path: str | Path) -> sqlite3.Connection:
    """Return the file of entries, made if it does not exist; threads use it in turn."""
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        _prepare(database)
    except (OSError, sqlite3.Error) as error:
        raise PromptlabError(
            f"The queue {path} cannot be opened: {error}. Expected a local folder that can be "
            "written."
        ) from error
    return database


def _prepare(database: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_S
    while True:  # SQLite does not wait for another process that turns WAL on
        try:
            database.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    database.execute("PRAGMA synchronous = FULL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.DatabaseError("it is of a newer promptlab")
    if version < VERSION:
        database.executescript(
            f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = {VERSION}; COMMIT;"
        )


def entry_from_row(row: tuple[Any, ...]) -> Entry:
    """Return an entry from a row of the table."""
    values = dict(zip((field.name for field in fields(Entry)), row, strict=True))
    values["argv"] = tuple(json.loads(values["argv"]))
    for name in ("is_cancelling", "is_urgent"):
        values[name] = bool(values[name])
    return Entry(**values)
