"""Opening an MLflow store: the one way that sweeps, syncs, the UI's verb and doctor share.

Takes a tracking URI, returns MLflow's client. A store that cannot be opened is known within
seconds, by its true reason.
"""

from __future__ import annotations

import os
import socket
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from promptlab.errors import TrackingError
from promptlab.redaction import redact_text
from promptlab.tracking.database import check, describe_half_made, prepare
from promptlab.tracking.location import database_of, uri_for_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_S = 4.0  # a server answers within this time or is away
_DATABASES = ("postgresql", "mysql", "mssql")


def open_client(uri: str, *, may_change: bool = True) -> MlflowClient:
    """Return a client of a store that answered.

    If it `may_change`, a SQLite file that does not exist is made, and one that was moved adapted.

    Raises TrackingError if the store cannot be used, ConnectionError if it is away.
    """
    set_environment()
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # its errors reach us as exceptions
    database = database_of(uri)
    if database is not None:
        prepare(database) if may_change else check(database)
    elif uri.startswith(("http://", "https://")):
        _knock(uri)
    elif uri.startswith(_DATABASES):
        _open_database(uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri_for_mlflow(uri))
        client.search_experiments(max_results=1)
    except MlflowException as error:
        if database is not None and "out-of-date database schema" in str(error):
            raise TrackingError(describe_half_made(database)) from error
        if any(f"error code {code}" in str(error) for code in (401, 403)):
            raise TrackingError(
                f"MLflow at {redact_text(uri)} refuses these credentials. Expected "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
            ) from error
        raise
    return client


def set_environment() -> None:
    """Set what MLflow reads from the environment, unless the user did."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")
    # Give up soon on a server that is away (MLflow waits four minutes): the next part
    # or the next sync tries again.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # What people draw is their own business, and offline there is nobody to tell.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def _knock(uri: str) -> None:
    """Raise ConnectionError if nobody listens at a URL; behind a proxy only MLflow can tell."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((host, port), PROBE_S).close()
    except ValueError as error:
        raise TrackingError(f"{redact_text(uri)} is no address: {error}.") from error
    except OSError as error:
        raise ConnectionError(str(error)) from None


def _open_database(uri: str) -> None:
    """Connect to a database server once; MLflow would try ten times with growing pauses."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(uri)
        engine.connect().close()
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = redact_text(next(iter(str(error).splitlines()), type(error).__name__))
        raise TrackingError(f"MLflow's database {redact_text(uri)} cannot be used: {reason}") from (
            error
        )
