"""The best image of every cell: what a sheet shows when there is room for one.

Takes SheetData and the axes for rows and columns, returns a table of data rows. What a person
liked comes first, then the first score, then the order of the sweep; rejects and failures last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.report.data import SheetData
from promptlab.verdicts.picks import Pick


@dataclass(frozen=True)
class BestTable:
    """One data row a cell; -1 where nothing was drawn."""

    rows: str  # axis
    columns: str  # axis
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    best: np.ndarray  # int32 [row label, column label]: a row of SheetData, or -1


def best_of_cells(
    data: SheetData, rows: str, columns: str, among: np.ndarray | None = None
) -> BestTable:
    """Return the best image of every cell; `among` (bool [row]) leaves out the rest."""
    row_axis, column_axis = data.axis(rows), data.axis(columns)
    best = np.full((len(row_axis.values), len(column_axis.values)), -1, np.int32)
    shown = data.has_image if among is None else data.has_image & among
    # the last one written wins, so the best are written last
    for row in reversed(order_by_liking(data, np.flatnonzero(shown))):
        best[row_axis.codes[row], column_axis.codes[row]] = row
    kept_rows = np.flatnonzero((best >= 0).any(axis=1))
    kept_columns = np.flatnonzero((best >= 0).any(axis=0))
    return BestTable(
        rows=rows,
        columns=columns,
        row_labels=tuple(row_axis.values[i] for i in kept_rows),
        column_labels=tuple(column_axis.values[i] for i in kept_columns),
        best=best[np.ix_(kept_rows, kept_columns)],
    )


def order_by_liking(data: SheetData, rows: Sequence[int] | np.ndarray) -> list[int]:
    """Return data rows, the best first."""
    pick_from_id = {pick.image_id: pick for pick in data.picks}
    score = next(iter(data.scores.values()), None)

    def badness(row: int) -> tuple[float, float, int]:
        image = int(data.image_of_row[row])
        value = score[image] if score is not None else None
        liked = liking(pick_from_id.get(data.image_ids[image]))
        return -liked, float("inf") if value is None else -value, row

    return sorted((int(row) for row in rows), key=badness)


def liking(pick: Pick | None) -> int:
    """Return how much a person likes an image, as the page orders candidates."""
    if pick is None:
        return 0
    if pick.is_reject:
        return -10
    return 10 * pick.is_favourite + (pick.rating or 0)


def wrapped(table: BestTable, num_columns: int) -> BestTable:
    """Return a table of one long row as several shorter ones, named by what they hold."""
    labels = table.column_labels
    if len(table.row_labels) != 1 or len(labels) <= num_columns:
        return table
    starts = range(0, len(labels), num_columns)
    best = np.full((len(starts), num_columns), -1, np.int32)
    best.flat[: len(labels)] = table.best[0]
    ends = [min(start + num_columns, len(labels)) - 1 for start in starts]
    names = (
        f"{table.columns} {labels[a]} – {labels[b]}" for a, b in zip(starts, ends, strict=True)
    )
    return BestTable(table.rows, table.columns, tuple(names), ("",) * num_columns, best)
