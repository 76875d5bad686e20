"""Scores: programs' verdicts on images, joined to the sheet by image_id.

Takes scores.parquet files, returns one list a score, in the order of the sheet's images. Reads
both shapes that such files have: one numeric column a score, or one row a score (name, value).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence

NAME_COLUMNS = ("score", "name", "metric", "scorer")
VALUE_COLUMNS = ("value", "score_value")


def read_scores(paths: Sequence[str], image_ids: Sequence[str]) -> dict[str, list[float | None]]:
    """Return every score as [image], None where an image has none; later files win."""
    from promptlab.store.storage import open_storage

    values: dict[str, dict[str, float]] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            data = open_storage(path).read_bytes(path)
            for image_id, name, value in _entries(data):
                if math.isfinite(value):
                    values.setdefault(name, {})[image_id] = round(value, 6)
    shown = set(image_ids)
    return {
        name: [by_id.get(image_id) for image_id in image_ids]
        for name, by_id in values.items()
        if not shown.isdisjoint(by_id)
    }


def _entries(data: bytes) -> list[tuple[str, str, float]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    names = table.column_names
    name_column = next(
        (n for n in NAME_COLUMNS if n in names and pa.types.is_string(table.schema.field(n).type)),
        None,
    )
    value_column = next((n for n in VALUE_COLUMNS if n in names), None)
    entries: list[tuple[str, str, float]] = []
    if name_column is not None and value_column is not None:
        columns = (table[c].to_pylist() for c in ("image_id", name_column, value_column))
        return [(i, n, float(v)) for i, n, v in zip(*columns, strict=True) if v is not None]
    ids = table["image_id"].to_pylist()
    for field in table.schema:
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
            values = table[field.name].to_pylist()
            pairs = zip(ids, values, strict=True)
            entries += [(i, field.name, float(v)) for i, v in pairs if v is not None]
    return entries
