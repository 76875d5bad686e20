"""Writing one part of images.parquet, whole or not at all.

Takes Arrow tables in the run's schema; leaves a Parquet file that pandas, DuckDB, Polars and
`datasets` read well. Knows nothing of what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from promptlab.store.parts import Part
from promptlab.store.schema import AxisColumn, make_schema
from promptlab.store.storage import Storage

ROW_GROUP_ROWS = 100  # rows that a reader of images loads at once: 100 images of 100 kB are 10 MB

# PNG does not shrink further, and a dictionary of values that are all different only costs.
_INCOMPRESSIBLE = "image.bytes"
_ALL_DIFFERENT = {_INCOMPRESSIBLE, "image.path", "image_id", "sha256"}


def write_part(
    storage: Storage,
    path: str,
    tables: Iterable[pa.Table],
    axes: Sequence[AxisColumn],
    replaces: Sequence[str] = (),
) -> Part:
    """Write the tables as one part and return it; durable when it returns."""
    schema = make_schema(axes, replaces)
    leaves = list(_leaf_columns(schema))
    num_rows = 0
    with storage.publish(path) as aside:
        with pq.ParquetWriter(
            aside,
            schema,
            compression={name: "NONE" if name == _INCOMPRESSIBLE else "ZSTD" for name in leaves},
            use_dictionary=[name for name in leaves if name not in _ALL_DIFFERENT],
            write_statistics=[name for name in leaves if name != _INCOMPRESSIBLE],
            write_page_checksum=True,
        ) as writer:
            for table in _regroup(tables):
                writer.write_table(table.cast(schema), row_group_size=ROW_GROUP_ROWS)
                num_rows += table.num_rows
        num_bytes = _size(aside)
    name = path.rsplit("/", 1)[-1]
    columns = frozenset(schema.names)
    return Part(name, path, num_rows, num_bytes, tuple(axes), tuple(replaces), columns)


def _size(path: str) -> int:
    with open(path, "rb") as file:
        return file.seek(0, 2)


def _regroup(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of ROW_GROUP_ROWS, the last one shorter."""
    waiting: list[pa.Table] = []
    num_waiting = 0
    for table in tables:
        waiting.append(table)
        num_waiting += table.num_rows
        while num_waiting >= ROW_GROUP_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROW_GROUP_ROWS)
            waiting = [joined.slice(ROW_GROUP_ROWS)]
            num_waiting -= ROW_GROUP_ROWS
    if num_waiting:
        yield pa.concat_tables(waiting)


def _leaf_columns(schema: pa.Schema) -> Iterator[str]:
    """Yield the paths of the stored columns, as Parquet names them."""
    for field in schema:
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{child.name}" for child in field.type)
        elif pa.types.is_list(field.type):
            yield f"{field.name}.list.element"
        else:
            yield field.name
