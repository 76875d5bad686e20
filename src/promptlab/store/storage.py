# ruff: noqa: D102  (what each method does is said once, in Storage)
"""Where the bytes of a run folder go: a local file system, or any that fsspec reaches.

Takes paths and bytes; guarantees that a name never shows half a file. Knows nothing of images
or Parquet. Locally: written aside, fsync, renamed, folder fsync. On an object store one put is
atomic and durable by itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from promptlab import atomic


class Storage(Protocol):
    """What the store needs of a file system."""

    is_local: bool

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents where they do not exist."""

    def write_files(self, data_from_path: Mapping[str, bytes]) -> None:
        """Write whole files of one folder; durable when it returns."""

    def publish(self, path: str) -> contextlib.AbstractContextManager[str]:
        """Give a local path to write to; the file appears under `path`, whole, on leaving."""

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError."""

    def open_input(self, path: str) -> BinaryIO:
        """Open a file for reading at any position."""

    def list_sizes(self, folder: str) -> dict[str, int]:
        """Return the files of a folder, name → bytes; {} if it does not exist."""

    def list_folders(self, folder: str) -> list[str]:
        """Return the names of a folder's sub-folders; [] if it does not exist."""

    def modified_at(self, path: str) -> float | None:
        """Return when a file was last written, in seconds since 1970; None if it does not exist."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""

    def delete_files(self, paths: Iterable[str]) -> None:
        """Delete files; a file that does not exist is no error."""

    def remove_leftovers(self, folder: str) -> None:
        """Delete what interrupted writes left in a folder."""


def open_storage(root: str) -> Storage:
    """Return the storage that a run folder's path or URL lies on."""
    return RemoteStorage(root) if "://" in root else LocalStorage()


class LocalStorage:
    """The file system of this machine."""

    is_local = True

    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def write_files(self, data_from_path: Mapping[str, bytes]) -> None:
        atomic.write_files(data_from_path, is_durable=True)

    def publish(self, path: str) -> contextlib.AbstractContextManager[str]:
        return atomic.replacing(path, is_durable=True)

    def read_bytes(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def open_input(self, path: str) -> BinaryIO:
        return open(path, "rb")

    def list_sizes(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def list_folders(self, folder: str) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def modified_at(self, path: str) -> float | None:
        try:
            return os.stat(path).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    def rename(self, old: str, new: str) -> None:
        atomic.replace(old, new)
        atomic.sync_folders([new])

    def delete_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def remove_leftovers(self, folder: str) -> None:
        for name in self.list_sizes(folder):
            if name.startswith(".") and name.endswith(atomic.TEMPORARY_SUFFIX):
                os.unlink(os.path.join(folder, name))


class RemoteStorage:
    """Any file system of fsspec, by URL; made for object stores."""

    is_local = False

    def __init__(self, root: str) -> None:
        import fsspec

        self.filesystem: Any = fsspec.core.url_to_fs(root)[0]

    def make_folder(self, path: str) -> None:
        """Do nothing: an object store has no folders, and a put makes those of other kinds."""

    def write_files(self, data_from_path: Mapping[str, bytes]) -> None:
        if data_from_path:
            self.filesystem.pipe(dict(data_from_path))

    @contextlib.contextmanager
    def publish(self, path: str) -> Iterator[str]:
        folder = tempfile.mkdtemp(prefix="promptlab-")
        try:
            local = os.path.join(folder, path.rsplit("/", 1)[-1])
            yield local
            self.filesystem.put_file(local, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def read_bytes(self, path: str) -> bytes:
        return self.filesystem.cat_file(path)

    def open_input(self, path: str) -> BinaryIO:
        return self.filesystem.open(path, "rb")

    def list_sizes(self, folder: str) -> dict[str, int]:
        return {
            name: entry["size"] or 0
            for name, entry in self._list(folder).items()
            if entry["type"] == "file"
        }

    def list_folders(self, folder: str) -> list[str]:
        return [n for n, entry in self._list(folder).items() if entry["type"] == "directory"]

    def _list(self, folder: str) -> dict[str, dict[str, Any]]:
        self.filesystem.invalidate_cache()  # another process may have written since
        try:
            entries = self.filesystem.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry for entry in entries}

    def modified_at(self, path: str) -> float | None:
        self.filesystem.invalidate_cache()
        try:
            return self.filesystem.modified(path).timestamp()
        except FileNotFoundError:
            return None

    def rename(self, old: str, new: str) -> None:
        self.filesystem.mv(old, new)

    def delete_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.rm_file(path)

    def remove_leftovers(self, folder: str) -> None:
        """Do nothing: a put that was interrupted leaves no object."""
