"""A progress bar with images/s and ETA on a terminal, a line now and then elsewhere.

Takes results as they come and passes them on unread.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)

LINE_INTERVAL_S = 30.0  # between two lines where there is no terminal

Item = TypeVar("Item")


def show_progress(results: Iterable[Item], total: int) -> Iterator[Item]:
    """Yield each result, showing how far the sweep is."""
    if total == 0:
        yield from results
    elif sys.stderr.isatty():
        yield from _bar(results, total)
    else:
        yield from _lines(results, total)


def _bar(results: Iterable[Item], total: int) -> Iterator[Item]:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    width = shutil.get_terminal_size().columns  # never 0, unlike what some terminals tell tqdm
    with logging_redirect_tqdm():
        yield from tqdm(results, total=total, unit="image", ncols=width, smoothing=0.1)


def _lines(results: Iterable[Item], total: int) -> Iterator[Item]:
    start = last = time.monotonic()
    for number, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if now - last >= LINE_INTERVAL_S:
            last = now
            speed = number / (now - start)
            left = format_seconds((total - number) / speed)
            log.info("%d of %d images, %.2f images/s, %s left", number, total, speed, left)


def format_seconds(seconds: float) -> str:
    """Return a duration for people: "45 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
