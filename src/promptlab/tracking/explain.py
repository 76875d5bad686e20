"""What MLflow's errors mean for a person, and what to do about each.

Takes exceptions of any library, returns sentences. Imports no MLflow.
"""

from __future__ import annotations

from promptlab.paths import RunPaths
from promptlab.redaction import redact_text
from promptlab.tracking.location import resolve_tracking_uri
from promptlab.tracking.options import TrackingOptions

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "sqlite3", "requests", "urllib3")


def is_unreachable(error: BaseException) -> bool:
    """Tell whether MLflow is away, so that trying the next call would only take longer."""
    return any(
        isinstance(seen, ConnectionError | TimeoutError)
        or type(seen).__module__.startswith(("requests.", "urllib3."))
        or "Max retries exceeded" in str(seen)
        or "failed to connect" in str(seen).lower()
        for seen in _chain(error)
    )


def is_foreign(error: BaseException) -> bool:
    """Tell whether an error comes from the file system, MLflow or what MLflow is built on."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or library in _LIBRARIES or is_unreachable(error)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those that led to it, the first one last."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(earlier)
    return chain


def describe_lost(paths: RunPaths, num_lost: int) -> str:
    """Return one message on images that are in the rows and in no file."""
    return (
        f"MLflow lacks {num_lost} images of {paths.root}: their PNG files are gone, and the "
        "Parquet has no copy of them (store.embed_images=false). Put the files back and run: "
        f"promptlab sync {paths.root}"
    )


def describe_failure(options: TrackingOptions, paths: RunPaths, error: BaseException) -> str:
    """Return one message for whatever MLflow said, and what to do."""
    uri = redact_text(resolve_tracking_uri(options.uri))
    if is_unreachable(error):
        what, then = "cannot be reached", "when it is back"
        error = _chain(error)[-1]  # "Connection refused", without who tried how often
    elif isinstance(error, OSError):  # a full disk, a folder that may not be written
        what, then = "could not be brought up to date", "when that is fixed"
    else:
        what, then = "refused a call", "when that is fixed"
    if any(type(seen).__module__.startswith("sqlalchemy") for seen in _chain(error)):
        error = _chain(error)[-1]  # what the database said, without SQLAlchemy's advice
    reason = redact_text(next(iter(str(error).splitlines()), type(error).__name__))[:300]
    return (
        f"MLflow at {uri} {what} ({reason}). The images are safe in {paths.root}; {then}, "
        f"bring it up to date with: promptlab sync {paths.root}"
    )


def describe_deleted(paths: RunPaths, num_deleted: int) -> str:
    """Return one message on MLflow runs that a person deleted."""
    runs = "one MLflow run" if num_deleted == 1 else f"{num_deleted} MLflow runs"
    return (
        f"{runs} of {paths.root} were deleted in MLflow and stay deleted. To log them again: "
        f"promptlab sync --restore {paths.root}"
    )
