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
    thumbnail_px: int = 128  # longest side of the pictures in MLflow's charts
    log_images: bool = True  # False: params, metrics and the report only
    flush_s: float = 15.0  # between two writes while images are drawn, at most

    def __post_init__(self) -> None:
        if not self.flush_s >= 0:
            raise TrackingError(f"tracking.flush_s={self.flush_s}: expected at least 0 seconds.")
        if not 16 <= self.thumbnail_px <= 4096:
            raise TrackingError(f"tracking.thumbnail_px={self.thumbnail_px}: expected 16 to 4096.")
