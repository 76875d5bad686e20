"""Files that appear whole or not at all, under their names.

Takes local paths; writes aside, optionally waits for the disk, renames. Knows nothing of what it
writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping

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
            with open(aside, "rb") as file:
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
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk needs the space of half a file
            os.unlink(aside)
        raise
