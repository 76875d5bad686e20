"""Few large parts from many small ones.

Takes the parts of a run that this process has locked; leaves the same rows in fewer parts. A part
is written again if it is small, if a later row took the place of one of its rows, or if its
columns are not the run's.

How a crash or a reader at any moment still sees every row exactly once: the new part appears
whole, under a number of its own, and names in its footer the parts it replaces; only then are
these deleted. promptlab's reader leaves out what is named so, and the next writer deletes it.
Tools that read the folder as it is (DuckDB, pandas) see the rows of those parts twice for the
milliseconds between the rename and the deletions; that is the one exception, and rows missing
even for an instant would be worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from promptlab.paths import RunPaths
from promptlab.store.part_writer import write_part
from promptlab.store.parts import Key, Part, all_columns, iter_row_groups, rows_without
from promptlab.store.schema import AxisColumn
from promptlab.store.storage import Storage

TARGET_BYTES = 128 * 2**20  # a part of this size is large
TARGET_ROWS = 10_000  # likewise, where the bytes are not embedded


def is_small(part: Part) -> bool:
    """Tell whether a part is worth merging with others."""
    return part.num_bytes < TARGET_BYTES / 2 and part.num_rows < TARGET_ROWS / 2


def compact(
    storage: Storage,
    paths: RunPaths,
    parts: Sequence[Part],
    axes: Sequence[AxisColumn],
    superseded: Mapping[str, set[Key]],
    next_number: int,
) -> list[Part]:
    """Merge the parts that are worth it; return the parts of the folder.

    `superseded` names, by part, the requests whose row in a later part counts instead.
    """
    kept = list(parts)
    for group in _choose(parts, axes, superseded):
        tables = _rows_that_count(storage, group, axes, superseded)
        names = [part.name for part in group]
        merged = write_part(storage, paths.part(next_number), tables, axes, replaces=names)
        storage.delete_files(part.path for part in group)
        next_number += 1
        kept = [part for part in kept if part not in group] + [merged]
    return kept


def _choose(
    parts: Sequence[Part], axes: Sequence[AxisColumn], superseded: Mapping[str, set[Key]]
) -> Iterator[list[Part]]:
    """Yield the groups of parts to merge, each up to the target's size."""
    columns = frozenset[str]().union(*(part.columns for part in parts))

    def must_be_rewritten(part: Part) -> bool:
        has_schema = part.axes == tuple(axes) and part.columns == columns
        return bool(superseded.get(part.name)) or not has_schema

    group: list[Part] = []
    for part in parts:
        must_change = must_be_rewritten(part)
        if must_change and not is_small(part):
            yield [part]
        elif must_change or is_small(part):
            group.append(part)
        if sum(p.num_bytes for p in group) >= TARGET_BYTES or (
            sum(p.num_rows for p in group) >= TARGET_ROWS
        ):
            yield group
            group = []
    if len(group) > 1 or any(map(must_be_rewritten, group)):
        yield group


def _rows_that_count(
    storage: Storage,
    parts: Sequence[Part],
    axes: Sequence[AxisColumn],
    superseded: Mapping[str, set[Key]],
) -> Iterator[pa.Table]:
    columns = all_columns(axes)
    for part in parts:
        dropped = superseded.get(part.name, set())
        for table in iter_row_groups(storage, part, axes, columns):
            yield rows_without(table, dropped)
