"""Tracking: MLflow brought up to the Parquet, during a sweep or later.

The names here are its whole API, loaded when first used; MLflow itself is imported only where it
is called, during a sweep in a process of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.tracking.follow import Tracking, open_tracking
    from promptlab.tracking.location import options_of_run, resolve_tracking_uri
    from promptlab.tracking.options import TrackingOptions
    from promptlab.tracking.syncing import SyncReport, sync

_MODULE_FROM_NAME = {
    "SyncReport": "syncing",
    "Tracking": "follow",
    "TrackingOptions": "options",
    "open_tracking": "follow",
    "options_of_run": "location",
    "resolve_tracking_uri": "location",
    "sync": "syncing",
}

__all__ = [
    "SyncReport",
    "Tracking",
    "TrackingOptions",
    "open_tracking",
    "options_of_run",
    "resolve_tracking_uri",
    "sync",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_FROM_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_FROM_NAME[name]}")
    return getattr(module, name)
