"""Reading a run folder: rows without image bytes, images by id.

Takes a run folder's path or URL; returns Arrow tables, plain dicts and PNG bytes. Writes nothing,
takes no lock, and works while another process writes. Imports pyarrow and nothing heavier.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.run_record import RunRecord
from promptlab.store import parts as part_files
from promptlab.store.parts import Part
from promptlab.store.schema import AxisColumn, make_schema
from promptlab.store.storage import Storage, open_storage

log = logging.getLogger(__name__)

_NUM_ATTEMPTS = 5  # to read parts while a writer compacts them


class Run:
    """One run folder as of the last look; `refresh` looks again."""

    def __init__(self, paths: RunPaths, storage: Storage) -> None:
        self.paths = paths
        self._storage = storage
        self._parts = part_files.list_parts(storage, paths.images_parquet)
        self._damaged: set[str] = set()  # parts whose footer is fine and whose pages are not
        self._warn(self._parts.unreadable)

    def _warn(self, names: Sequence[str]) -> None:
        if names:
            log.warning(
                "%s: left out %s, which cannot be read (cut short by a crash or a full disk?). "
                "Run the sweep again to draw what is missing.",
                self.paths.images_parquet,
                ", ".join(names),
            )

    @functools.cached_property
    def record(self) -> RunRecord:
        """What sweep.yaml says; an empty record without one."""
        return read_record(self._storage, self.paths) or RunRecord()

    @property
    def sweep(self) -> str:
        """The sweep's name; the folder's where sweep.yaml does not tell."""
        return self.record.sweep or self.paths.name

    @property
    def axes(self) -> tuple[AxisColumn, ...]:
        """The further axes: config key, column and kind."""
        return self._parts.axes

    @property
    def num_rows(self) -> int:
        """Number of requests that are answered, failures included."""
        return self._keys_table.num_rows

    @functools.cached_property
    def _keys_table(self) -> pa.Table:
        return self.table(["image_id", "cell_id", "seed", "status", "path"])

    def refresh(self) -> None:
        """Look again: rows may have been added, parts compacted."""
        self._parts = part_files.list_parts(
            self._storage, self.paths.images_parquet, self._parts.parts
        )
        for name in ("record", "_keys_table", "_path_from_id"):
            self.__dict__.pop(name, None)

    def read_news(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Look again, and return the rows of the parts that are new, in the order of drawing.

        Compaction writes rows anew, so one may have been there before.
        """
        known = {part.name for part in self._parts.parts}
        self.refresh()

        def read() -> list[dict[str, Any]]:
            new = [part for part in self._parts.parts if part.name not in known]
            tables = [self._read_part(part, self.axes, columns) for part in new]
            return [row for table in tables if table is not None for row in table.to_pylist()]

        return self._retrying(read)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row per request, in the order of drawing.

        By default all columns but `image`, plus `path`, the PNG's path within the run folder.
        Image bytes are read only if `image` is asked for.
        """
        names = [*self._metadata_columns()] if columns is None else list(columns)
        unknown = set(names) - {*part_files.all_columns(self.axes), "path"}
        if unknown:
            raise StoreError(
                f"images.parquet has no column {', '.join(sorted(unknown))}. "
                f"It has: {', '.join(self._metadata_columns())}, image."
            )
        return self._retrying(lambda: self._read_table(names))

    def _metadata_columns(self) -> list[str]:
        return part_files.metadata_columns(self.axes)

    def _read_table(self, names: Sequence[str]) -> pa.Table:
        wanted = list(dict.fromkeys([*names, "cell_id", "seed"]))
        parts = self._parts.parts
        axes = self.axes
        tables = (self._read_part(part, axes, wanted) for part in parts)
        table = pa.concat_tables(
            [_empty_table(axes, wanted), *(table for table in tables if table is not None)]
        )
        keys = list(zip(table["cell_id"].to_pylist(), table["seed"].to_pylist(), strict=True))
        positions = part_files.latest_rows(keys)
        return (table if positions is None else table.take(positions)).select(names)

    def _read_part(
        self, part: Part, axes: Sequence[AxisColumn], names: Sequence[str]
    ) -> pa.Table | None:
        if part.name in self._damaged:
            return None
        try:
            return part_files.read_part(self._storage, part, axes, names)
        except (pa.ArrowException, OSError, ValueError) as error:
            if not part_files.is_corruption(error):
                raise
        self._damaged.add(part.name)
        self._warn([part.name])
        return None

    def _retrying(self, read: Any) -> Any:
        """Read again when compaction took a part away in the middle."""
        for _ in range(_NUM_ATTEMPTS - 1):
            try:
                return read()
            except FileNotFoundError:
                self.refresh()
        return read()

    def rows(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of `table` as plain dicts."""
        return self.table(columns).to_pylist()

    @functools.cached_property
    def _path_from_id(self) -> dict[str, str]:
        table = self._keys_table
        pairs = zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)
        return {image_id: path for image_id, path in pairs if path is not None}

    def image_bytes(self, image_id: str) -> bytes | None:
        """Return an image's PNG, from its file or else from Parquet; None if there is none."""
        path = self._path_from_id.get(image_id)
        return None if path is None else self.image_at(image_id, path)

    def image_at(self, image_id: str, path: str) -> bytes | None:
        """Return the PNG of an image whose path is known from its row."""
        try:
            return self._storage.read_bytes(self.paths.join(path))
        except FileNotFoundError:
            return next((png for _, png in self._stored_images({image_id})), None)

    def iter_images(self, image_ids: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield (image_id, PNG) of all images or some, each once, in flat memory."""
        open_ids = set(self._path_from_id)
        if image_ids is not None:
            open_ids &= set(image_ids)
        for image_id, png in self._stored_images(open_ids):
            open_ids.discard(image_id)
            yield image_id, png
        for image_id in sorted(open_ids):  # runs that keep no bytes in Parquet
            try:
                yield (
                    image_id,
                    self._storage.read_bytes(self.paths.join(self._path_from_id[image_id])),
                )
            except FileNotFoundError:
                log.warning("%s: the PNG of %s is gone.", self.paths.root, image_id)

    def _stored_images(self, image_ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
        open_ids = set(image_ids)
        for num_left in reversed(range(_NUM_ATTEMPTS)):
            try:
                for part in self._parts.parts:
                    if not open_ids:
                        return
                    ids = self._read_part(part, (), ["image_id"])
                    if ids is None or open_ids.isdisjoint(ids["image_id"].to_pylist()):
                        continue
                    for image_id, png in self._images_of_part(part, open_ids):
                        open_ids.discard(image_id)
                        yield image_id, png
                return
            except FileNotFoundError:  # compaction took the part away
                if not num_left:
                    raise
                self.refresh()

    def _images_of_part(self, part: Part, image_ids: set[str]) -> Iterator[tuple[str, bytes]]:
        groups = part_files.iter_row_groups(self._storage, part, (), ["image_id", "image"])
        try:
            for group in groups:
                for row, image_id in enumerate(group["image_id"].to_pylist()):
                    if image_id not in image_ids:
                        continue
                    image = group["image"][row].as_py()
                    if image is not None and image["bytes"] is not None:
                        yield image_id, image["bytes"]
        except (pa.ArrowException, OSError, ValueError) as error:
            if not part_files.is_corruption(error):
                raise
            log.warning(
                "%s: images in %s are damaged. Their PNG files are read instead.",
                self.paths.images_parquet,
                part.name,
            )


def read_record(storage: Storage, paths: RunPaths) -> RunRecord | None:
    """Return what sweep.yaml says, None if there is none; StoreError if it is damaged."""
    try:
        return RunRecord.from_yaml(storage.read_bytes(paths.sweep_yaml))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(
            f"{paths.sweep_yaml} is damaged: expected what promptlab wrote there, got {error}. The "
            "images beside it are not affected: restore the file, or delete it."
        ) from error


def _empty_table(axes: Sequence[AxisColumn], names: Sequence[str]) -> pa.Table:
    schema = make_schema(axes)
    kinds = {field.name: field.type for field in schema} | {"path": pa.string()}
    return pa.table({name: pa.nulls(0, kinds[name]) for name in names})  # pa.array loads pandas


def read_run(path: str | RunPaths) -> Run:
    """Open a run folder for reading; raises StoreError if it is none."""
    paths = path if isinstance(path, RunPaths) else RunPaths(path)
    storage = open_storage(paths.root)
    if not _is_run(storage, paths):
        raise StoreError(
            f"{paths.root} is not a run folder: expected sweep.yaml or images.parquet in it. "
            "`promptlab report` and the like take a folder such as runs/<date>_<time>_<sweep>."
        )
    return Run(paths, storage)


def _is_run(storage: Storage, paths: RunPaths) -> bool:
    return (
        storage.modified_at(paths.sweep_yaml) is not None
        or bool(storage.list_sizes(paths.images_parquet))
        or paths.images_parquet.rsplit("/", 1)[-1] in storage.list_folders(paths.root)
    )
