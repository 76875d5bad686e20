"""How long an image waits for its batch, and what a writer that failed does with its time."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Sequence

import pytest

from promptlab.store.pipeline import MAX_QUEUED, Pipeline, QueuedImage, StoredImage

FLUSH_S = 30.0
IMAGE = QueuedImage(rows=(), png=None)


@pytest.fixture
def waits(monkeypatch) -> list[float | None]:
    """What each wait of the writer for an image was limited to, in seconds."""
    found: list[float | None] = []
    get = queue.Queue.get

    def noted(self, block=True, timeout=None):
        found.append(timeout)
        return get(self, block, timeout)

    monkeypatch.setattr(queue.Queue, "get", noted)
    monkeypatch.setattr("promptlab.store.pipeline._label", lambda _: [StoredImage(None, None)])
    return found


def test_the_first_image_of_a_batch_waits_no_longer_than_flush_s(waits):
    written: list[Sequence[StoredImage]] = []
    pipeline = Pipeline(written.append, batch_rows=10, flush_s=FLUSH_S)
    for _ in range(3):
        pipeline.put(IMAGE)
    pipeline.flush()
    pipeline.close()
    assert list(map(len, written)) == [3]
    limits = [wait for wait in waits if wait is not None]
    assert len(limits) == 3
    assert FLUSH_S / 2 < limits[0] <= FLUSH_S
    assert limits == sorted(limits, reverse=True), "later images do not put the writing off"


def test_once_writing_has_failed_the_next_image_is_refused_and_closing_says_it_no_more(waits):
    failed = threading.Event()

    def fail(_: Sequence[StoredImage]) -> None:
        failed.set()
        raise OSError("the disk is full")

    pipeline = Pipeline(fail, batch_rows=1, flush_s=FLUSH_S)
    pipeline.put(IMAGE)
    failed.wait()
    images = itertools.repeat(IMAGE, 1000)  # the error is known a moment later
    with pytest.raises(OSError, match="full"):
        list(map(pipeline.put, images))
    pipeline.close()


def test_an_error_that_no_call_has_raised_is_raised_by_closing(waits):
    def fail(_: Sequence[StoredImage]) -> None:
        raise OSError("the disk is full")

    pipeline = Pipeline(fail, batch_rows=10, flush_s=FLUSH_S)
    pipeline.put(IMAGE)
    with pytest.raises(OSError, match="full"):
        pipeline.close()


def test_a_writer_that_failed_waits_for_what_comes_without_looking_at_the_clock(waits):
    def fail(_: Sequence[StoredImage]) -> None:
        raise OSError("the disk is full")

    pipeline = Pipeline(fail, batch_rows=1, flush_s=0.0)
    pipeline.put(IMAGE)
    with pytest.raises(OSError, match="full"):
        pipeline.flush()
    pipeline.close()
    assert set(waits) == {None}


def test_a_writer_that_failed_writes_nothing_more(waits):
    is_queued, num_calls = threading.Event(), 0

    def fail_once(_: Sequence[StoredImage]) -> None:
        nonlocal num_calls
        num_calls += 1
        is_queued.wait()
        raise OSError("the lock is another's")

    pipeline = Pipeline(fail_once, batch_rows=1, flush_s=FLUSH_S)
    for _ in range(3):
        pipeline.put(IMAGE)
    is_queued.set()
    with pytest.raises(OSError, match="another's"):
        pipeline.close()
    assert num_calls == 1


def test_no_more_images_wait_than_the_queue_holds(waits):
    may_write, num_put = threading.Event(), 0
    pipeline = Pipeline(lambda _: may_write.wait(), batch_rows=1, flush_s=FLUSH_S)

    def put_all() -> None:
        nonlocal num_put
        for _ in range(MAX_QUEUED + 10):
            pipeline.put(IMAGE)
            num_put += 1

    thread = threading.Thread(target=put_all)
    thread.start()
    thread.join(0.3)
    assert 0 < num_put <= MAX_QUEUED + 1, "one is being written"
    may_write.set()
    thread.join()
    pipeline.close()
