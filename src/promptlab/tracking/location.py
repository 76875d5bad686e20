"""Which MLflow store a run goes to, and how its address is written.

Takes a tracking URI, an environment and a run folder; returns URIs and paths. A run remembers its
store in a file of its own, so that a later command finds it from any folder and any shell. Opens
no store and imports no MLflow.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from promptlab.errors import TrackingError
from promptlab.identity import hash_id
from promptlab.paths import RunPaths
from promptlab.redaction import MARK, redact_text
from promptlab.run_record import RunRecord
from promptlab.store.storage import open_storage
from promptlab.tracking.options import TrackingOptions

RECORD_FILE = ".mlflow.json"  # in a run folder: which store holds it
DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"  # folder beside the database
_SQLITE = "sqlite:///"
_UNSAFE = "?%"  # SQLAlchemy reads these in a path as the beginning of a query, or of an escape


def resolve_tracking_uri(uri: str | None = None) -> str:
    """Return the tracking URI that applies: given, from the environment, or a local file.

    A SQLite file is named by its absolute path, so that every process means the same one.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{DATABASE_NAME}"
    database = database_of(uri)
    return uri if database is None else f"{_SQLITE}{database}{_query_of(uri)}"


def database_of(uri: str) -> Path | None:
    """Return the file of a SQLite URI, the path as it was typed; None for any other store."""
    if not uri.startswith(_SQLITE):
        return None
    path = uri.removeprefix(_SQLITE).removesuffix(_query_of(uri))
    return Path(os.path.abspath(path)) if path and path != ":memory:" else None


def _query_of(uri: str) -> str:
    """Return the end of a URI from its `?` on; a `?` before a `/` belongs to a folder's name."""
    head, mark, query = uri.rpartition("?")
    return mark + query if head and "/" not in query else ""


def uri_for_mlflow(uri: str) -> str:
    """Return a URI that MLflow understands as the same store.

    SQLAlchemy's versions differ in how they read `?` and `%` in a path, so that a database in such
    a folder is reached through a link with a plain name.
    """
    database = database_of(uri)
    if database is None or not any(mark in str(database) for mark in _UNSAFE):
        return uri
    return f"{_SQLITE}{_link_to(database.parent) / database.name}{_query_of(uri)}"


def _link_to(folder: Path) -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    links = Path(tempfile.gettempdir(), f"promptlab-links-{user}")
    links.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and links.stat().st_uid != user:
        raise TrackingError(
            f"{links} belongs to another user. Expected a folder of your own: set TMPDIR."
        )
    link = links / hash_id(str(folder))
    if not link.is_symlink() or os.readlink(link) != str(folder):
        aside = link.with_name(f"{link.name}.{os.getpid()}")
        aside.unlink(missing_ok=True)
        aside.symlink_to(folder, target_is_directory=True)
        os.replace(aside, link)
    return link


def default_artifact_root(uri: str) -> str | None:
    """Return where a local database keeps its artifacts; None where a server decides.

    Beside the database file, so that it does not depend on the working directory of whoever
    opens MLflow's UI.
    """
    database = database_of(uri)
    return None if database is None else (database.parent / ARTIFACTS_NAME).as_uri()


def experiment_of(options: TrackingOptions) -> str | None:
    """Return the experiment that is asked for; None for the sweep's name."""
    return options.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or None


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """Which store a run folder was tracked in, as the run folder itself says."""

    uri: str  # without credentials
    database: str | None = None  # the SQLite file's path relative to the run folder
    experiment: str | None = None  # None: the sweep's name
    experiment_id: str | None = None  # None: MLflow has not answered yet


def write_record(
    paths: RunPaths, uri: str, experiment: str | None, experiment_id: str | None = None
) -> None:
    """Note in a run folder which store holds it."""
    database = database_of(uri)
    relative = None
    if database is not None and "://" not in paths.root:
        relative = os.path.relpath(database, os.path.abspath(paths.root))
    record = StoreRecord(redact_text(uri), relative, experiment, experiment_id)
    text = json.dumps(asdict(record), indent=1) + "\n"
    if read_record(paths) != record:
        open_storage(paths.root).write_files({paths.join(RECORD_FILE): text.encode()})


def bind_run(paths: RunPaths, uri: str, experiment: str | None) -> None:
    """Note in a run folder which store is to hold it, before that store has answered."""
    stored = read_record(paths)
    if stored is None or (stored.uri, stored.experiment) != (redact_text(uri), experiment):
        write_record(paths, uri, experiment)


def read_record(paths: RunPaths) -> StoreRecord | None:
    """Return which store a run folder says holds it; None where it says nothing."""
    try:
        text = open_storage(paths.root).read_bytes(paths.join(RECORD_FILE))
        return StoreRecord(**json.loads(text))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def uri_of_run(paths: RunPaths, record: RunRecord) -> str:
    """Return the store that holds a run: as recorded, wherever the caller stands.

    `record` is sweep.yaml: runs of an older promptlab have their `tracking.uri` there.
    A project folder may have been moved since, so the path relative to the run folder comes first.
    """
    stored = read_record(paths)
    if stored is None:
        return _uri_of_older_run(paths, record)
    if stored.database is not None:
        moved = os.path.normpath(os.path.join(os.path.abspath(paths.root), stored.database))
        database = database_of(stored.uri)
        if os.path.exists(moved) or database is None or not database.exists():
            return f"{_SQLITE}{moved}"
    return _with_credentials(stored.uri)


def options_of_run(paths: RunPaths, record: RunRecord, uri: str | None = None) -> TrackingOptions:
    """Return how a run was tracked: in which store, unless one is given, and how laid out."""
    tracking = record.config.get("tracking")
    given = tracking if isinstance(tracking, dict) else {}
    layout = {
        name: given[name] for name in ("image_axis", "log_images", "thumbnail_px") if name in given
    }
    stored = read_record(paths)
    experiment = given.get("experiment") if stored is None else stored.experiment
    return TrackingOptions(uri=uri or uri_of_run(paths, record), experiment=experiment, **layout)


def _uri_of_older_run(paths: RunPaths, record: RunRecord) -> str:
    tracking = record.config.get("tracking")
    uri = tracking.get("uri") if isinstance(tracking, dict) else None
    if uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return _with_credentials(resolve_tracking_uri(uri))
    beside_runs = Path(os.path.abspath(paths.root)).parents[1] / DATABASE_NAME
    if "://" not in paths.root and beside_runs.exists():
        return f"{_SQLITE}{beside_runs}"
    return resolve_tracking_uri()


def _with_credentials(uri: str) -> str:
    """Return a recorded URI with the credentials that were left out of it."""
    if MARK not in uri:
        return uri
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if redact_text(given) == uri:
        return given
    if {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} <= os.environ.keys():
        scheme, _, rest = uri.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    raise TrackingError(
        f"The run was tracked in {uri}; its password is not recorded. Expected the whole address "
        "in --uri or MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    )
