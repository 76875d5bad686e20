"""What a user may say about tracking.

Plain values. Imports no MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.errors import TrackingError


@dataclass(frozen=True)
class TrackingOptions:
    """How a run goes to MLflow."""

    enabled: bool = True
    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite in the working directory
    experiment: str | None = None  # None: MLFLOW_EXPERIMENT_NAME, else the sweep's name
    image_axis: str | None = "subject"  # the axis that is the image key; None: one run a cell
    log_images: bool = True  # False: params, metrics and the report only
    flush_s: float = 15.0  # between two writes while images are drawn, at most

    def __post_init__(self) -> None:
        if not self.flush_s >= 0:
            raise TrackingError(f"tracking.flush_s={self.flush_s}: expected at least 0 seconds.")
