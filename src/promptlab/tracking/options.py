"""What a user may say about tracking, and where MLflow's data go by default.

Plain values. Imports no MLflow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from promptlab.errors import TrackingError


@dataclass(frozen=True)
class TrackingOptions:
    """How a run goes to MLflow."""

    enabled: bool = True
    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite in the working directory
    image_axis: str | None = "subject"  # the axis that is the image key; None: one run a cell
    log_images: bool = True  # False: params, metrics and the report only
    flush_s: float = 15.0  # between two writes while images are drawn, at most

    def __post_init__(self) -> None:
        if not self.flush_s >= 0:
            raise TrackingError(f"tracking.flush_s={self.flush_s}: expected at least 0 seconds.")


def resolve_tracking_uri(uri: str | None = None) -> str:
    """Return the tracking URI that applies: given, from the environment, or a local file."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def default_artifact_root(uri: str) -> str | None:
    """Return where a local database keeps its artifacts; None where a server decides.

    Beside the database file, so that it does not depend on the working directory of whoever
    opens MLflow's UI.
    """
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return None
    return (Path(uri.removeprefix(prefix)).absolute().parent / "mlartifacts").as_uri()
