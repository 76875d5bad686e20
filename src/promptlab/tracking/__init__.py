"""Tracking: takes a run's Parquet, brings MLflow up to it, during a sweep or later.

MLflow is imported only where it is called, during a sweep in a process of its own; knows no model
and no page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.tracking.follow import Tracking, open_tracking
    from promptlab.tracking.location import options_of_run, resolve_tracking_uri
    from promptlab.tracking.options import TrackingOptions
    from promptlab.tracking.syncing import SyncReport, sync

__all__ = [
    "SyncReport",
    "Tracking",
    "TrackingOptions",
    "open_tracking",
    "options_of_run",
    "resolve_tracking_uri",
    "sync",
]

__getattr__ = load_lazily(
    __name__,
    {
        "SyncReport": "syncing",
        "Tracking": "follow",
        "TrackingOptions": "options",
        "open_tracking": "follow",
        "options_of_run": "location",
        "resolve_tracking_uri": "location",
        "sync": "syncing",
    },
)
