"""The rows of a part as tracking reads them: all of them without images, then batches with images.

Takes a part of a run folder; returns plain rows. Damaged metadata leaves the part out, damaged
images leave their bytes out. Memory holds one batch of images. Knows no MLflow and no arm.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from promptlab.store.parts import Key, Part, is_corruption, iter_row_groups, read_part
from promptlab.store.schema import AxisColumn
from promptlab.store.storage import Storage
from promptlab.tracking.backlog import Row, key_of

log = logging.getLogger(__name__)

BATCH_ROWS = 400  # logged together: a call to MLflow costs milliseconds whatever it carries

_COLUMNS = (
    "image_id",
    "cell_id",
    "arm_id",
    "subject",
    "style",
    "template",
    "model",
    "prompt",
    "params",
    "seed",
    "status",
    "unseen",
    "seconds",
    "cost_usd",
    "created_at",
    "source_id",
)


def row_columns(axes: Sequence[AxisColumn]) -> list[str]:
    """Return the columns that tracking looks at, those of further axes included."""
    return [*_COLUMNS, *(axis.column for axis in axes)]


def read_rows(storage: Storage, part: Part) -> list[Row] | None:
    """Return a part's rows with the paths of their PNG files; None if the part is damaged."""
    try:
        table = read_part(storage, part, part.axes, [*row_columns(part.axes), "path"])
        return table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        if not is_corruption(error):
            raise
        log.warning("%s is damaged: left out until the sweep is run again.", part.path)
        return None


def iter_batches(
    storage: Storage, part: Part, rows: Sequence[Row], wanted: Collection[Key]
) -> Iterator[list[Row]]:
    """Yield the wanted ones of a part's rows with their images, BATCH_ROWS at a time."""
    found = (row for row in _with_images(storage, part, rows) if key_of(row) in wanted)
    while batch := list(itertools.islice(found, BATCH_ROWS)):
        yield batch


def _with_images(storage: Storage, part: Part, rows: Sequence[Row]) -> Iterator[Row]:
    """Yield a part's rows with their images; where those are damaged, with none.

    The PNG file is logged then.
    """
    num_read = 0
    try:
        columns = [*row_columns(part.axes), "image"]
        for table in iter_row_groups(storage, part, part.axes, columns):
            yield from table.to_pylist()
            num_read += table.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        if not is_corruption(error):
            raise
        for row in rows[num_read:]:
            yield {**row, "image": {"bytes": None, "path": row["path"]}}
