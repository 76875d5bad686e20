"""MLflow's SQLite file: made by one process, checked before MLflow opens it, moved with its folder.

Takes the file's path; raises TrackingError with the true reason at once, where MLflow would try
for two minutes. Uses Python's sqlite3; MLflow is imported only to make a new file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from promptlab.atomic import replace
from promptlab.errors import RunLockedError, TrackingError
from promptlab.store.lock import wait_for_lock
from promptlab.tracking.location import ARTIFACTS_NAME, uri_for_mlflow

CREATION_PATIENCE_S = 120.0  # another process makes the file meanwhile
BUSY_S = 4.0  # another process writes meanwhile


def prepare(database: Path) -> None:
    """Make MLflow's database if it does not exist; check that it can be written."""
    if not has_content(database):
        _make(database)
    check(database)
    relocate_artifacts(database)


def has_content(database: Path) -> bool:
    """Tell whether the file exists and is not empty."""
    try:
        return database.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_folder(folder: Path) -> None:
    """Raise TrackingError unless a database can be made in a folder."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise TrackingError(f"MLflow's database cannot be made in {folder}: it is no folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrackingError(
            f"MLflow's database cannot be made in {folder}: the folder cannot be written. Name "
            "another place (tracking.uri=sqlite:////…/mlflow.db), or tracking=null for none."
        )


def _make(database: Path) -> None:
    """Make the database aside and rename it: who finds the file finds a whole one.

    MLflow makes its tables one by one without a lock. Two processes at once, a kill or a full disk
    would leave a file that no later one can use.
    """
    check_folder(database.parent)
    aside = database.with_name(f".{database.name}.tmp")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        (database.parent / ARTIFACTS_NAME).mkdir(exist_ok=True)
        with wait_for_lock(str(database.with_name(f".{database.name}.lock")), CREATION_PATIENCE_S):
            if has_content(database):
                return
            _remove(aside)  # of a process that died
            try:
                _make_tables(aside)
                replace(aside, database)
            finally:
                _remove(aside)
    except RunLockedError as error:
        raise TrackingError(f"Another process has been making {database} for minutes.") from error
    except TrackingError:
        raise
    except Exception as error:  # of the file system, SQLAlchemy or MLflow
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrackingError(f"MLflow's database {database} cannot be made: {reason}.") from error


def _make_tables(aside: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    artifacts = (aside.parent / ARTIFACTS_NAME).as_uri()
    SqlAlchemyStore(uri_for_mlflow(f"sqlite:///{aside}"), artifacts).engine.dispose()


def _remove(database: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def check(database: Path) -> None:
    """Raise TrackingError unless the file is a whole database of MLflow that can be written."""
    try:
        with _connect(database) as connection:
            tables = {
                name
                for (name,) in connection.execute(
                    "select name from sqlite_master where type = 'table'"
                )
            }
            is_whole = {"alembic_version", "runs", "experiments"} <= tables and not any(
                name.startswith("_alembic_tmp_") for name in tables
            )
            if not is_whole:
                raise TrackingError(describe_half_made(database))
            connection.execute("begin immediate")
            connection.rollback()
    except sqlite3.Error as error:
        if "locked" in str(error):  # by a process that writes: it can be used
            return
        raise TrackingError(
            f"MLflow's database {database} cannot be used: {error}. Expected a SQLite file of "
            "MLflow in a folder that you may write to; name another (tracking.uri=…, or "
            "MLFLOW_TRACKING_URI), or move this one away."
        ) from error


def describe_half_made(database: Path) -> str:
    """Return what to do with a database of an older MLflow, or one that was left half made."""
    if count_runs(database):
        return (
            f"MLflow's database {database} has the tables of another version of MLflow. Copy it "
            f"for safety, then run: mlflow db upgrade sqlite:///{database}"
        )
    return (
        f"MLflow's database {database} is half made: whoever made it was stopped. It holds no "
        f"run, so nothing is lost: delete it (rm {database}) and run the command again."
    )


def count_runs(database: Path) -> int:
    """Return the number of MLflow runs in a database; 0 if it has no table of them."""
    try:
        with _connect(database) as connection:
            return int(connection.execute("select count(*) from runs").fetchone()[0])
    except sqlite3.Error:
        return 0


def is_deleted(database: Path, experiment_id: str) -> bool:
    """Tell whether a person deleted an experiment; False where the file cannot tell."""
    query = "select lifecycle_stage from experiments where experiment_id = ?"
    try:
        with _connect(database) as connection:
            return connection.execute(query, (experiment_id,)).fetchone() == ("deleted",)
    except sqlite3.Error:
        return False


@contextlib.contextmanager
def _connect(database: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(
        sqlite3.connect(
            f"file:{quote(str(database))}?mode=rw",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
        )
    ) as connection:
        yield connection


def relocate_artifacts(database: Path) -> None:
    """Let MLflow find the artifacts beside its database after both were moved or copied.

    MLflow records absolute paths, so that a project's folder under a new name would still read and
    write images under the old one. Only folders `mlartifacts/<experiment>` that exist beside the
    database are adapted.
    """
    root = database.parent / ARTIFACTS_NAME
    with contextlib.suppress(sqlite3.OperationalError), _connect(database) as connection:
        found = connection.execute("select experiment_id, artifact_location from experiments")
        for experiment_id, old in found.fetchall():
            folder = artifact_folder(old)
            if folder is None or folder.parent.name != ARTIFACTS_NAME or folder.parent == root:
                continue
            if not (root / folder.name).is_dir() and not _is_unused(connection, experiment_id):
                continue
            new = (root / folder.name).as_uri()
            connection.execute("begin immediate")
            connection.execute(
                "update runs set artifact_uri = ? || substr(artifact_uri, ?) "
                "where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
                (new, len(old) + 1, experiment_id, len(old) + 1, f"{old}/"),
            )
            connection.execute(
                "update experiments set artifact_location = ? where experiment_id = ?",
                (new, experiment_id),
            )
            connection.commit()


def _is_unused(connection: sqlite3.Connection, experiment_id: int) -> bool:
    query = "select count(*) from runs where experiment_id = ?"
    return connection.execute(query, (experiment_id,)).fetchone()[0] == 0


def artifact_folder(location: str | None) -> Path | None:
    """Return the local folder of an artifact location; None for a location on a server."""
    parts = urlsplit(location or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
