"""From pixels to acknowledged rows, on a thread of its own.

Takes images through a bounded queue, encodes their PNGs, and hands batches of finished rows to
the function that writes them. Knows no plan and no path. zlib and the file system leave Python's
lock alone, so a second core encodes while the first draws. Whatever goes wrong on the thread is
raised to the caller at its next call, once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptlab.records import ImageRow
from promptlab.store.png import encode_png

log = logging.getLogger(__name__)

MAX_QUEUED = 64  # images: 13 MB at 256 px, 200 MB at 1024 px
MAX_BATCH_BYTES = 32 * 2**20  # a batch of large images is written before it is full


@dataclass(frozen=True, slots=True)
class QueuedImage:
    """One image for one cell or several: pixels, a PNG from an earlier run, or a failure."""

    rows: tuple[ImageRow, ...]
    pixels: np.ndarray | None = None  # uint8 [height, width, 3]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # for the PNG of pixels
    params_line: str = ""  # for the PNG of pixels: the parameters as A1111 writes them
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """A row with nothing left to fill in, and its PNG if it has one."""

    row: ImageRow
    png: bytes | None


class Pipeline:
    """A writer thread and the bounded queue before it."""

    def __init__(
        self,
        write_batch: Callable[[Sequence[FinishedRow]], None],
        *,
        batch_rows: int,
        flush_s: float,
    ) -> None:
        self._write_batch = write_batch
        self._batch_rows = batch_rows
        self._flush_s = flush_s
        self._queue: queue.Queue[QueuedImage | threading.Event | None] = queue.Queue(MAX_QUEUED)
        self._error: Exception | None = None
        self._is_error_told = False
        self._batch: list[FinishedRow] = []
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
        """Write what is left and end the thread; raises an error that was not told yet."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        if not self._is_error_told:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._is_error_told = True
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
        finished = _finish(image)
        self._batch.extend(finished)
        self._num_bytes += len(finished[0].png or b"")
        if len(self._batch) >= self._batch_rows or self._num_bytes >= MAX_BATCH_BYTES:
            self._write()

    def _write(self) -> None:
        if self._batch:
            self._write_batch(self._batch)
            self._batch = []
            self._num_bytes = 0


def _finish(image: QueuedImage) -> list[FinishedRow]:
    """Encode an image once and fill in what its rows say about it."""
    if image.pixels is None:
        return [FinishedRow(row, image.png) for row in image.rows]
    height, width = image.pixels.shape[:2]
    sha256 = hashlib.sha256(np.ascontiguousarray(image.pixels).data).hexdigest()
    png = encode_png(image.pixels, image.facts, image.params_line)
    return [
        FinishedRow(dataclasses.replace(row, width=width, height=height, sha256=sha256), png)
        for row in image.rows
    ]
