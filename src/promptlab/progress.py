"""A progress bar with images/s and ETA on a terminal or in a notebook, a log line elsewhere.

Takes the name of whoever drew an image; knows nothing of the image.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

log = logging.getLogger(__name__)

LINE_INTERVAL_S = 30.0  # between two lines where there is no terminal

Count = Callable[[str], None]  # takes the name of the worker that drew an image


@contextmanager
def show_progress(total: int) -> Iterator[Count]:
    """Give a function that counts an image, showing how far the sweep is."""
    if total == 0:
        yield lambda worker: None
    elif sys.stderr.isatty() or _is_in_notebook():
        with _bar(total) as count:
            yield count
    else:
        yield _lines(total)


@contextmanager
def _bar(total: int) -> Iterator[Count]:
    from tqdm.contrib.logging import logging_redirect_tqdm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets has a bar of text
        from tqdm.auto import tqdm

    # A notebook gives a bar the width of its cell. A terminal's is never 0, as some tell tqdm.
    width = None if _is_in_notebook() else shutil.get_terminal_size().columns
    start, counts = time.monotonic(), Counter[str]()
    with (
        logging_redirect_tqdm(),
        tqdm(total=total, unit="image", ncols=width, smoothing=0.1) as bar,
    ):

        def count(worker: str) -> None:
            counts[worker] += 1
            if len(counts) > 1:
                bar.set_postfix_str(_speeds(counts, time.monotonic() - start), refresh=False)
            bar.update()

        yield count


def _is_in_notebook() -> bool:
    """Tell whether a person sees what this process prints below the cell of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _lines(total: int) -> Count:
    start = last = time.monotonic()
    counts = Counter[str]()

    def count(worker: str) -> None:
        nonlocal last
        counts[worker] += 1
        now = time.monotonic()
        if now - last >= LINE_INTERVAL_S:
            last = now
            number = counts.total()
            speed = number / (now - start)
            left = format_seconds((total - number) / speed)
            each = f" ({_speeds(counts, now - start)})" if len(counts) > 1 else ""
            log.info("%d of %d images, %.2f images/s%s, %s left", number, total, speed, each, left)

    return count


def _speeds(counts: Mapping[str, int], seconds: float) -> str:
    """Return each worker's images/s: "gpu 0 3.1/s, gpu 1 2.9/s"."""
    each = (f"{name} {number / seconds:.3g}/s" for name, number in sorted(counts.items()))
    return ", ".join(each)


def format_seconds(seconds: float) -> str:
    """Return a duration for people: "45 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
