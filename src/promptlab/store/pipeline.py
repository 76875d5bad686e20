"""From finished images to acknowledged rows, on a thread of its own.

Takes images through a bounded queue, puts into each PNG what it says of itself, and hands batches
to the function that writes them. Knows no plan and no path. Whatever fails on the thread is raised
to the caller at its next call, once.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.records import ImageRow
from promptlab.store.png import Label, wrap

log = logging.getLogger(__name__)

MAX_QUEUED = 64  # images: 6 MB at 256 px, 100 MB at 1024 px
MAX_BATCH_BYTES = 32 * 2**20  # a batch of large images is written before it is full


@dataclass(frozen=True, slots=True)
class QueuedImage:
    """One image of one cell or several that ask for it."""

    rows: tuple[ImageRow, ...]
    png: bytes | None  # None: failed
    label: Label | None = None  # what the PNG is to say; None: it keeps its texts


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A row and its PNG, as they are on disk."""

    row: ImageRow
    png: bytes | None


class Pipeline:
    """A writer thread and the bounded queue before it."""

    def __init__(
        self,
        write_batch: Callable[[Sequence[StoredImage]], None],
        *,
        batch_rows: int,
        flush_s: float,
    ) -> None:
        self._write_batch = write_batch
        self._batch_rows = batch_rows
        self._flush_s = flush_s
        self._queue: queue.Queue[QueuedImage | threading.Event | None] = queue.Queue(MAX_QUEUED)
        self._error: Exception | None = None
        self._is_error_raised = False
        self._batch: list[StoredImage] = []
        self._num_bytes = 0
        self._flush_at = 0.0
        self._thread = threading.Thread(target=self._run, name="promptlab-store", daemon=True)
        self._thread.start()

    def put(self, image: QueuedImage) -> None:
        """Hand over an image; blocks while the queue is full."""
        self._raise_error()
        self._queue.put(image)

    def flush(self) -> None:
        """Return when everything handed over is on disk."""
        self._raise_error()
        done = threading.Event()
        self._queue.put(done)
        done.wait()
        self._raise_error()

    def close(self) -> None:
        """Write the last batch and end the thread; raises an error that was not raised yet."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        if not self._is_error_raised:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._is_error_raised = True
            raise self._error

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=self._seconds_to_flush())
            except queue.Empty:
                self._guard(self._write)
                continue
            if isinstance(item, QueuedImage):
                self._guard(self._accept, item)
                continue
            self._guard(self._write)
            if item is None:
                return
            item.set()

    def _seconds_to_flush(self) -> float | None:
        return max(0.0, self._flush_at - time.monotonic()) if self._batch else None

    def _guard(self, step: Callable[..., None], *args: Any) -> None:
        """Run a step; after an error take and drop what comes, so that the caller never hangs."""
        if self._error is not None:
            return
        try:
            step(*args)
        except Exception as error:
            self._error = error
            self._batch = []

    def _accept(self, image: QueuedImage) -> None:
        if not self._batch:
            self._flush_at = time.monotonic() + self._flush_s
        labelled = _label(image)
        self._batch.extend(labelled)
        self._num_bytes += len(labelled[0].png or b"")
        if len(self._batch) >= self._batch_rows or self._num_bytes >= MAX_BATCH_BYTES:
            self._write()

    def _write(self) -> None:
        if self._batch:
            self._write_batch(self._batch)
            self._batch = []
            self._num_bytes = 0


def _label(image: QueuedImage) -> list[StoredImage]:
    """Return the rows of an image with its PNG, which says what the image is."""
    png, facts = image.png, image.rows[0].facts
    if png is not None and image.label is not None:
        assert facts.width is not None
        assert facts.height is not None
        png = wrap(png, image.label, facts.width, facts.height)
    return [StoredImage(row, png) for row in image.rows]
