"""The parts of images.parquet: which of them count, and their rows.

Takes a run's folder of parts, returns Arrow tables in the run's one schema. Knows no plan, no
lock and no thread; the reader, the writer and compaction all look at parts through this.

Three rules make a folder that is being written readable at any moment:
a part that cannot be read is left out (a power cut may truncate the last one);
a part that another one says it replaces is left out (compaction writes the new part first and
deletes the old ones after);
of two rows for one request, (cell_id, seed), the later counts (a failed image drawn again).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from promptlab.errors import StoreError
from promptlab.store.schema import (
    SCHEMA_VERSION,
    VERSION_KEY,
    AxisColumn,
    conform,
    make_schema,
    read_axes,
    read_replaces,
    widen,
)
from promptlab.store.storage import Storage

log = logging.getLogger(__name__)

_PART_NAME = re.compile(r"part-(\d{6,})\.parquet")
# Before each look at the parts while a writer compacts them; it deletes dozens one by one.
_PAUSES_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

Key = tuple[str, int]  # (cell_id, seed): one request


@dataclass(frozen=True, slots=True)
class Part:
    """One part, as its footer describes it."""

    name: str
    path: str
    num_rows: int
    num_bytes: int
    axes: tuple[AxisColumn, ...]
    replaces: tuple[str, ...]
    columns: frozenset[str]  # of the file: an older promptlab wrote fewer

    @property
    def number(self) -> int:
        """Parts are numbered in order of writing; no number is used twice."""
        return part_number(self.name)


@dataclass(frozen=True, slots=True)
class PartList:
    """What a folder of parts holds."""

    parts: tuple[Part, ...]  # those that count, in order of writing
    replaced: tuple[str, ...]  # names there that another part took over
    unreadable: tuple[str, ...]  # names there that cannot be opened
    next_number: int

    @property
    def axes(self) -> tuple[AxisColumn, ...]:
        """The further axes of all parts, each as wide as its widest."""
        return merge_axes([part.axes for part in self.parts])


def is_corruption(error: BaseException) -> bool:
    """Tell whether a part's bytes are to blame, and not the file system or the caller.

    Arrow raises its errors for damaged bytes as OSError too, but without an errno.
    """
    return not isinstance(error, OSError) or (
        error.errno is None and not isinstance(error, FileNotFoundError | PermissionError)
    )


def part_number(name: str) -> int:
    """Return the number in a part's name."""
    match = _PART_NAME.fullmatch(name)
    if match is None:
        raise StoreError(f"Expected a part's name like part-000007.parquet, got {name!r}.")
    return int(match[1])


def merge_axes(axes_of_parts: Sequence[Sequence[AxisColumn]]) -> tuple[AxisColumn, ...]:
    """Return the axes of several parts as one list, in order of appearance."""
    merged: dict[str, AxisColumn] = {}
    for axes in axes_of_parts:
        for axis in axes:
            known = merged.get(axis.name)
            kind = axis.kind if known is None else widen(known.kind, axis.kind)
            merged[axis.name] = AxisColumn(axis.name, axis.column, kind)
    return tuple(merged.values())


def list_parts(storage: Storage, folder: str, known: Sequence[Part] = ()) -> PartList:
    """Return the parts of a folder; footers of `known` parts are not read again."""
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        sizes = _part_sizes(storage, folder)
        try:
            found = _list_parts(storage, folder, known, sizes)
        except FileNotFoundError:  # compacted away between listing and opening
            continue
        # A listing is no snapshot: made while parts are merged, it may miss the old and the new.
        if _part_sizes(storage, folder).keys() == sizes.keys():
            return found
    return _list_parts(storage, folder, known, _part_sizes(storage, folder))


def _part_sizes(storage: Storage, folder: str) -> dict[str, int]:
    return {n: s for n, s in storage.list_sizes(folder).items() if _PART_NAME.fullmatch(n)}


def _list_parts(
    storage: Storage, folder: str, known: Sequence[Part], sizes: dict[str, int]
) -> PartList:
    known_from_name = {part.name: part for part in known}
    parts: list[Part] = []
    unreadable: list[str] = []
    for name in sorted(sizes, key=part_number):
        try:
            part = known_from_name.get(name) or _read_footer(storage, folder, name, sizes[name])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if not is_corruption(error):
                raise
            unreadable.append(name)
            continue
        parts.append(part)
    replaced = {name for part in parts for name in part.replaces}
    numbers = [part_number(name) for name in (*sizes, *replaced)]
    return PartList(
        parts=tuple(part for part in parts if part.name not in replaced),
        replaced=tuple(name for name in sizes if name in replaced),
        unreadable=tuple(unreadable),
        next_number=max(numbers, default=-1) + 1,
    )


def _read_footer(storage: Storage, folder: str, name: str, num_bytes: int) -> Part:
    path = f"{folder}/{name}"
    with storage.open_input(path) as file:
        parquet = pq.ParquetFile(file)
        metadata = parquet.metadata.metadata or {}
        version = int(metadata.get(VERSION_KEY, b"0"))
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {version}; this promptlab reads up to "
                f"{SCHEMA_VERSION}. Install a newer promptlab."
            )
        return Part(
            name=name,
            path=path,
            num_rows=parquet.metadata.num_rows,
            num_bytes=num_bytes,
            axes=read_axes(metadata),
            replaces=read_replaces(metadata),
            columns=frozenset(parquet.schema_arrow.names),
        )


def read_part(
    storage: Storage, part: Part, axes: Sequence[AxisColumn], columns: Sequence[str]
) -> pa.Table:
    """Return some columns of a part in the run's schema; "path" is the PNG's, without bytes."""
    with storage.open_input(part.path) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        return _project(parquet.read(_stored_columns(parquet, columns)), axes, columns)


def iter_row_groups(
    storage: Storage, part: Part, axes: Sequence[AxisColumn], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield a part's row groups one after the other, so that memory stays flat."""
    with storage.open_input(part.path) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        for number in range(parquet.num_row_groups):
            table = parquet.read_row_group(number, _stored_columns(parquet, columns))
            yield _project(table, axes, columns)


def check_part(storage: Storage, part: Part, *, with_images: bool) -> bool:
    """Tell whether a part is as it was written: every byte, or all but the images'."""
    columns = all_columns(part.axes) if with_images else metadata_columns(part.axes)
    groups = _iter_checked(storage, part, part.axes, columns)
    return all(table is not None for table in groups)


def iter_intact_row_groups(
    storage: Storage, part: Part, axes: Sequence[AxisColumn]
) -> Iterator[pa.Table]:
    """Yield the row groups of a damaged part that are as they were written."""
    for table in _iter_checked(storage, part, axes, all_columns(axes)):
        if table is not None:
            yield table


def _iter_checked(
    storage: Storage, part: Part, axes: Sequence[AxisColumn], columns: Sequence[str]
) -> Iterator[pa.Table | None]:
    """Yield a part's row groups, None for each that is damaged."""
    with storage.open_input(part.path) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        for number in range(parquet.num_row_groups):
            try:
                table = parquet.read_row_group(number, _stored_columns(parquet, columns))
            except (pa.ArrowException, OSError, ValueError) as error:
                if not is_corruption(error):
                    raise
                yield None
                continue
            yield _project(table, axes, columns)


def _stored_columns(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    stored = set(parquet.schema_arrow.names)
    names = [name for name in columns if name in stored]
    if "path" in columns:
        names.append("image.path")
    return names


def _project(table: pa.Table, axes: Sequence[AxisColumn], columns: Sequence[str]) -> pa.Table:
    names = [name for name in columns if name != "path"]
    conformed = conform(table, axes, names)
    if "path" not in columns:
        return conformed
    chunks = [chunk.field("path") for chunk in table.column("image").chunks]
    arrays = {name: conformed.column(name) for name in names}
    arrays["path"] = pa.chunked_array(chunks, type=pa.string())
    return pa.table({name: arrays[name] for name in columns})


def all_columns(axes: Sequence[AxisColumn]) -> list[str]:
    """Return the columns of images.parquet in order, `image` included."""
    return make_schema(axes).names


def metadata_columns(axes: Sequence[AxisColumn]) -> list[str]:
    """Return the columns of images.parquet in order, with `path` in place of `image`."""
    return ["path" if name == "image" else name for name in all_columns(axes)]


def read_keys(storage: Storage, part: Part) -> list[Key]:
    """Return the request of each row of a part."""
    table = read_part(storage, part, (), ["cell_id", "seed"])
    return list(zip(table["cell_id"].to_pylist(), table["seed"].to_pylist(), strict=True))


def rows_without(table: pa.Table, dropped: set[Key]) -> pa.Table:
    """Return a part's rows but for those of some requests."""
    if not dropped:
        return table
    keys = zip(table["cell_id"].to_pylist(), table["seed"].to_pylist(), strict=True)
    kept = [row for row, key in enumerate(keys) if key not in dropped]
    return table.take(pa.array(kept, pa.int64()))  # of no rows, too, Arrow needs to know the type


def latest_rows(keys: Sequence[Key]) -> list[int] | None:
    """Return the positions of the rows that count, the latest of each request; None for all."""
    position_from_key = {key: position for position, key in enumerate(keys)}
    if len(position_from_key) == len(keys):
        return None
    return sorted(position_from_key.values())
