"""What a run folder itself says about its tracking: who writes it to MLflow, and how far.

Two hidden files: a lock, and a mark that MLflow holds every image of that moment. Knows no MLflow,
so that a sweep with nothing to do need not ask it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from promptlab.identity import hash_id
from promptlab.paths import RunPaths
from promptlab.store.lock import wait_for_lock
from promptlab.store.storage import open_storage
from promptlab.tracking.location import experiment_of, resolve_tracking_uri
from promptlab.tracking.options import TrackingOptions

LOCK_FILE = ".tracking.lock"
LOCK_PATIENCE_S = 30.0
MARKER_FILE = ".tracked"


def mark_as_tracked(paths: RunPaths, options: TrackingOptions) -> None:
    """Note beside the rows that MLflow holds them."""
    text = tracked_state(paths, options)
    open_storage(paths.root).write_files({paths.join(MARKER_FILE): text.encode()})


def tracked_state(paths: RunPaths, options: TrackingOptions) -> str:
    """Return what changes whenever a run folder has something that MLflow may not have."""
    names = sorted(open_storage(paths.root).list_sizes(paths.images_parquet))
    store = [resolve_tracking_uri(options.uri), experiment_of(options)]
    return hash_id([names, store, options.image_axis, options.log_images])


def is_tracked(paths: RunPaths, options: TrackingOptions) -> bool:
    """Tell, without asking MLflow, whether it is up to date with this run folder."""
    try:
        text = open_storage(paths.root).read_bytes(paths.join(MARKER_FILE))
    except FileNotFoundError:
        return False
    return text.decode() == tracked_state(paths, options)


def hold_tracking_lock(paths: RunPaths) -> AbstractContextManager[None]:
    """Be the only process that writes a run folder to MLflow, waiting a little for another.

    Two at once would create every run twice; the follower of a sweep that was killed needs a
    moment to notice.
    """
    return wait_for_lock(paths.join(LOCK_FILE), LOCK_PATIENCE_S)
