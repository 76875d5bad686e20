"""Files that appear whole or not at all, under their names.

Takes local paths; writes aside, optionally waits for the disk, renames. Knows nothing of what it
writes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping

PATIENCE_S = 5.0  # for readers of a file that is replaced
_POLL_S = 0.02
TEMPORARY_SUFFIX = ".tmp"  # with a leading dot: no reader takes such a file for a whole one


@contextlib.contextmanager
def replacing(path: str, *, is_durable: bool) -> Iterator[str]:
    """Give a path to write to; on leaving, what is there is renamed to `path` in one step.

    A durable file survives a power cut once this returns. When the block is left by an exception,
    the old file stays.
    """
    with _aside(path) as aside:
        yield aside
        if is_durable:
            with open(aside, "r+b") as file:  # Windows synchronizes only what may be written
                os.fsync(file.fileno())
    if is_durable:
        sync_folders([path])


def write_files(data_from_path: Mapping[str, bytes], *, is_durable: bool) -> None:
    """Write whole files, each in one step; the folders are synchronized once, at the end."""
    for path, data in data_from_path.items():
        with _aside(path) as aside, open(aside, "wb", buffering=0) as file:
            left = memoryview(data)
            while left:  # a disk that fills up may take a part, and refuse the next
                left = left[file.write(left) :]
            if is_durable:
                os.fsync(file.fileno())
    if is_durable:
        sync_folders(data_from_path)


def replace(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
    """Give a file another name, in one step; a file that had that name is gone.

    Windows refuses that while somebody reads either file, so that there it is tried for a while.
    """
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.replace(old, new)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > give_up_at:
                raise
        time.sleep(_POLL_S)


def sync_folders(paths: Iterable[str]) -> None:
    """Make the names of files durable, where the platform lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    for folder in {os.path.dirname(path) or "." for path in paths}:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _aside(path: str) -> Iterator[str]:
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        yield aside
        replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk needs the space of half a file
            os.unlink(aside)
        raise
